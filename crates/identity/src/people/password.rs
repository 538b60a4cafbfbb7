//! Which passwords people may choose: long ones that are not among those that are tried first.
//! Rules of NIST SP 800-63B, section 3.1.1.2: length, a list, and nothing about kinds of characters.

use std::collections::HashSet;

use crate::Error;

/// The passwords that most people use.
#[derive(Debug)]
pub(crate) struct CommonPasswords(HashSet<&'static str>);

impl CommonPasswords {
    pub(crate) fn new() -> CommonPasswords {
        CommonPasswords(LIST.lines().collect())
    }

    /// Whether a password is one of them, or one of them with digits and signs around it, or one of them many times.
    fn has(&self, password: &str) -> bool {
        let lower = password.to_lowercase();
        let letters = lower.trim_matches(|c: char| !c.is_alphabetic());
        [lower.as_str(), letters].iter().any(|word| self.0.contains(unrepeated(word)))
    }
}

/// Checks a password that a person chose; `words` are those that belong to the person, which it may not be made of.
pub(crate) fn check(common: &CommonPasswords, password: &str, words: &[&str]) -> Result<(), Error> {
    let wrong = |rule| Err(Error::Invalid { field: "password", rule });
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return wrong("12 characters at least, 1024 bytes at most");
    }
    if password.chars().any(char::is_control) {
        return wrong("no control characters");
    }
    let lower = password.to_lowercase();
    let mut kinds: Vec<char> = lower.chars().collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() < FEWEST_KINDS {
        return wrong("5 different characters at least");
    }
    let jumps =
        password.chars().zip(password.chars().skip(1)).filter(|(a, b)| u32::from(*a).abs_diff(u32::from(*b)) > 1);
    if jumps.count() < FEWEST_JUMPS {
        return wrong("not a run such as 1234567890");
    }
    if common.has(password) {
        return wrong("not one of those that are used most, nor one with digits and signs around it");
    }
    let parts = words.iter().flat_map(|word| [*word, word.split('@').next().unwrap_or(word)]);
    for word in parts.map(str::to_lowercase).filter(|word| word.chars().count() >= SHORTEST_WORD) {
        if lower.contains(&word) && lower.chars().count() - word.chars().count() < SHORTEST {
            return wrong("not made of the login, the e-mail address or the account");
        }
    }
    Ok(())
}

/// `abcabc` is `abc`: the shortest word that a text is a repetition of, which may be the text itself.
fn unrepeated(text: &str) -> &str {
    let ends = text.char_indices().map(|(at, _)| at).skip(1);
    let word = |end: &usize| {
        text.len().is_multiple_of(*end) && text.as_bytes().chunks(*end).all(|part| part == &text.as_bytes()[..*end])
    };
    let mut ends = ends.filter(word);
    ends.next().map_or(text, |end| &text[..end])
}

/// 10,000 of the most used: the first different lines of `django/contrib/auth/common-passwords.txt.gz` of Django 4.2.16,
/// which Royce Williams compiled. Its licence (BSD-3-Clause) stands beside it.
const LIST: &str = include_str!("common-passwords.txt");
const SHORTEST: usize = 12;
const LONGEST: usize = 1024;
const FEWEST_KINDS: usize = 5;
/// Characters that are neither the one before again nor its neighbour in the alphabet.
const FEWEST_JUMPS: usize = 4;
const SHORTEST_WORD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_first_is_refused_however_it_is_dressed_up() {
        let common = CommonPasswords::new();
        assert_eq!(common.0.len(), 10_000, "no word twice");
        let words = ["alice.smith", "asmith@example.org", "ab1234-casemate"];
        for wrong in [
            "",
            "short-one-1",
            "aaaaaaaaaaaaaaaa",
            "1234567890123",
            "abcdefghijklmnop",
            "passwordpassword",
            "Password12345!",
            "12345password",
            "!!!!Iloveyou2024",
            "qwertyuiopqwertyuiop",
            "alice.smith2024",
            "AsMith-12345",
            "xxab1234-casematexx",
            "with\u{7}bell-in-it",
        ] {
            assert!(check(&common, wrong, &words).is_err(), "{wrong}");
        }
        assert!(check(&common, &"long".repeat(300), &words).is_err());
        for good in ["correct horse battery staple", "Zq9#vLw2!kRt", "пять зелёных слонов", "asmith and eleven others"]
        {
            check(&common, good, &words).unwrap_or_else(|fault| panic!("{good}: {fault}"));
        }
    }

    #[test]
    fn a_repetition_is_its_word() {
        for (text, word) in [("abcabc", "abc"), ("aaaa", "a"), ("abcab", "abcab"), ("", ""), ("éé", "é")] {
            assert_eq!(unrepeated(text), word);
        }
    }
}
