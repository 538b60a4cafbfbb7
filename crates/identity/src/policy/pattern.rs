//! Texts of policies with wildcards (`*`, `?`) and variables (`${aws:username}`).
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>

use std::borrow::Cow;

use memchr::memmem;

use super::condition::is_key;

/// A text to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `?`: one character.
    One,
    /// `*`: any number of characters.
    Run,
    /// The value of a condition key.
    Variable(String),
}

/// Where variables get their values.
pub(super) trait Variables {
    /// The value of a condition key, if it has just one.
    fn value(&self, key: &str) -> Option<Cow<'_, str>>;
}

/// None has a value.
pub(super) struct NoVariables;

impl Variables for NoVariables {
    fn value(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Pattern {
    /// Reads a text; what is wrong with it, and what would be right.
    pub(super) fn parse(text: &str, wildcards: bool, variables: bool) -> Result<Pattern, (String, String)> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let part = match letter {
                '$' if variables && rest.starts_with("${") => {
                    let Some((name, after)) = rest[2..].split_once('}') else {
                        return Err(("'${' without '}'".to_owned(), "write '${$}' for a dollar sign".to_owned()));
                    };
                    rest = after;
                    match name {
                        "*" | "?" | "$" => {
                            literal.push_str(name);
                            continue;
                        }
                        name if is_key(name) => Part::Variable(name.to_owned()),
                        name => {
                            let shown: String = name.chars().take(80).collect();
                            let right =
                                "'${aws:username}', '${aws:userid}' or another condition key; '${$}' is a dollar sign";
                            return Err((format!("'{shown}' is not a variable"), right.to_owned()));
                        }
                    }
                }
                _ => {
                    rest = &rest[letter.len_utf8()..];
                    match letter {
                        '*' if wildcards => Part::Run,
                        '?' if wildcards => Part::One,
                        letter => {
                            literal.push(letter);
                            continue;
                        }
                    }
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            if part != Part::Run || parts.last() != Some(&Part::Run) {
                parts.push(part);
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Pattern(parts))
    }

    /// Whether it is one fixed text: no wildcard, no variable.
    pub(super) fn is_fixed(&self) -> bool {
        !self.0.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    /// Whether a text is of this pattern, which has no variables (with them: no).
    pub(super) fn matches_plain(&self, text: &str) -> bool {
        self.matches(text, &NoVariables, false)
    }

    /// Whether a text is of this pattern; `unresolved` is the answer where a variable has no value.
    ///
    /// Goes back to the last `*` only, which is enough; so its time is at most that of a search for each part from each
    /// place of the text.
    pub(super) fn matches(&self, text: &str, variables: &impl Variables, unresolved: bool) -> bool {
        let Some(parts) = self.resolved(variables) else { return unresolved };
        let (mut part, mut at) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        loop {
            let forward = match parts.get(part) {
                None if at == text.len() => return true,
                None => None,
                Some(Resolved::Run) if part + 1 == parts.len() => return true,
                Some(Resolved::Run) => {
                    back = Some((part + 1, at));
                    Some(0)
                }
                Some(Resolved::One) => text[at..].chars().next().map(char::len_utf8),
                Some(Resolved::Literal(literal)) => text[at..].starts_with(&**literal).then_some(literal.len()),
            };
            if let Some(length) = forward {
                at += length;
                part += 1;
                continue;
            }
            let Some((after, from)) = back else { return false };
            let Some(letter) = text[from..].chars().next() else { return false };
            let mut next = from + letter.len_utf8();
            if let Some(Resolved::Literal(literal)) = parts.get(after) {
                match memmem::find(&text.as_bytes()[next..], literal.as_bytes()) {
                    // A match of a whole text begins where a character begins.
                    Some(found) => next += found,
                    None => return false,
                }
            }
            back = Some((after, next));
            (part, at) = (after, next);
        }
    }

    /// Whether a text is this one, whatever the case of its letters; wildcards are not looked at.
    pub(super) fn equals_ignoring_case(&self, text: &str, variables: &impl Variables, unresolved: bool) -> bool {
        let Some(parts) = self.resolved(variables) else { return unresolved };
        let whole: String = parts
            .iter()
            .map(|part| match part {
                Resolved::Literal(literal) => &**literal,
                Resolved::One => "?",
                Resolved::Run => "*",
            })
            .collect();
        whole.chars().flat_map(char::to_lowercase).eq(text.chars().flat_map(char::to_lowercase))
    }

    /// With the values of its variables; `None` if one has none.
    fn resolved<'a>(&'a self, variables: &'a impl Variables) -> Option<Vec<Resolved<'a>>> {
        let mut parts = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            parts.push(match part {
                Part::Literal(literal) => Resolved::Literal(Cow::Borrowed(literal.as_str())),
                Part::One => Resolved::One,
                Part::Run => Resolved::Run,
                Part::Variable(key) => Resolved::Literal(variables.value(key)?),
            });
        }
        Some(parts)
    }
}

enum Resolved<'a> {
    Literal(Cow<'a, str>),
    One,
    Run,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, true, true).expect("a pattern")
    }

    /// What the words say, and nothing cleverer.
    fn simple(pattern: &[char], text: &[char]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some('*') => (0..=text.len()).any(|skipped| simple(&pattern[1..], &text[skipped..])),
            Some('?') => !text.is_empty() && simple(&pattern[1..], &text[1..]),
            Some(letter) => text.first() == Some(letter) && simple(&pattern[1..], &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_words_say(wild in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let (wild_letters, letters): (Vec<char>, Vec<char>) = (wild.chars().collect(), text.chars().collect());
            prop_assert_eq!(pattern(&wild).matches_plain(&text), simple(&wild_letters, &letters), "{} {}", wild, text);
        }

        #[test]
        fn reading_a_pattern_never_panics(text in "\\PC{0,40}", wildcards: bool, variables: bool) {
            let _ = Pattern::parse(&text, wildcards, variables);
        }
    }

    struct Ann;

    impl Variables for Ann {
        fn value(&self, key: &str) -> Option<Cow<'_, str>> {
            match key {
                "aws:username" => Some(Cow::Borrowed("ann*")),
                "s3:prefix" => Some(Cow::Borrowed("")),
                _ => None,
            }
        }
    }

    #[test]
    fn a_variable_is_its_value_and_no_wildcard_in_it_counts() {
        let home = pattern("home/${aws:username}/*");
        assert!(home.matches("home/ann*/x", &Ann, false));
        assert!(!home.matches("home/anna/x", &Ann, false));
        assert!(pattern("*${s3:prefix}b").matches("aéb", &Ann, false), "an empty value");
        for unresolved in [false, true] {
            assert_eq!(pattern("${aws:userid}").matches("", &Ann, unresolved), unresolved);
        }
        assert!(pattern("a${*}b${?}${$}").matches_plain("a*b?$"));
        assert!(!pattern("a${*}b").matches_plain("axb"));
        let old = Pattern::parse("${aws:username}", true, false).expect("a pattern");
        assert!(old.matches_plain("${aws:username}"), "the old version has no variables");
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for wrong in ["${", "${aws:username", "${}", "${aws:nothing}", "${ aws:username }"] {
            assert!(Pattern::parse(wrong, true, true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_malicious_pattern_takes_no_time() {
        let begun = Instant::now();
        assert!(!pattern(&"*a".repeat(5_000)).matches_plain(&format!("{}b", "a".repeat(1_000))));
        assert!(!pattern(&format!("{}b", "*?a".repeat(3_000))).matches_plain(&"a".repeat(1_024)));
        assert!(!pattern(&format!("*{}b", "a?".repeat(500))).matches_plain(&"a".repeat(1_024)));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
