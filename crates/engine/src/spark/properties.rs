//! The format of `java.util.Properties`, which Spark's properties files have.

use crate::Error;

/// Reads names and values in order. Later ones win, which is the caller's to do.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Error> {
    if text.len() > MAX_FILE {
        return Err(Error::Properties(format!("it has {} bytes, the bound is {MAX_FILE}", text.len())));
    }
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_owned();
        // An odd number of backslashes at the end goes on in the next line.
        while line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
            line.pop();
            match lines.next() {
                Some((_, more)) => line.push_str(more.trim_start()),
                None => break,
            }
        }
        properties
            .push(split(&line).ok_or_else(|| Error::Properties(format!("line {}: a wrong \\u escape", number + 1)))?);
    }
    Ok(properties)
}

/// Writes one line that [`parse`] and Java read back.
pub(super) fn line(name: &str, value: &str) -> String {
    format!("{}={}\n", escape(name, true), escape(value, false))
}

fn split(line: &str) -> Option<(String, String)> {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, letter)| {
        let ends = !escaped && matches!(letter, '=' | ':' | ' ' | '\t' | '\u{c}');
        escaped = !escaped && *letter == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.map_or(line.len(), |(index, _)| index));
    let blank = [' ', '\t', '\u{c}'];
    let rest = rest.trim_start_matches(blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(blank);
    // Spark trims values.
    Some((unescape(name)?, unescape(value)?.trim().to_owned()))
}

fn unescape(text: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut letters = text.chars();
    let mut buffer = [0; 2];
    while let Some(letter) = letters.next() {
        let plain = match letter {
            '\\' => match letters.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = letters.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)?);
                    continue;
                }
                Some(other) => other,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    Some(String::from_utf16_lossy(&units))
}

fn escape(text: &str, name: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, letter) in text.chars().enumerate() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{c}' => escaped.push_str("\\f"),
            ' ' if name || index == 0 => escaped.push_str("\\ "),
            '=' | ':' | '#' | '!' if name => {
                escaped.push('\\');
                escaped.push(letter);
            }
            ' '..='~' => escaped.push(letter),
            // Spark reads the file as UTF-8, but other readers of the format take it for Latin-1: neither errs on these.
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04X}"));
                }
            }
        }
    }
    escaped
}

const MAX_FILE: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).expect("valid")
    }

    #[test]
    fn every_form_of_the_format_is_read() {
        let text = "# remark\n! remark\n\na.b 1\nc=2\n d : 3 \ne.f=x=y:z\ng=one,\\\n   two\nh=\\u0041\\tB\ni\nj\\ k=l\nm=C:\\\\x\n";
        let expected = [
            ("a.b", "1"),
            ("c", "2"),
            ("d", "3"),
            ("e.f", "x=y:z"),
            ("g", "one,two"),
            ("h", "A\tB"),
            ("i", ""),
            ("j k", "l"),
            ("m", "C:\\x"),
        ];
        assert_eq!(pairs(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(parse("a=\\u12").is_err());
        assert!(parse("a=\\uzzzz").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in "[a-zA-Z0-9._ :=#!é-]{1,20}", value in "\\PC{0,40}") {
            let read = pairs(&line(&name, &value));
            prop_assert_eq!(read, [(name, value.trim().to_owned())]);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,200}|[\\\\u0-9a-f=: \n]{0,60}") {
            let _ = parse(&text);
        }
    }
}
