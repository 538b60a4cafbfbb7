//! Texts that may have `*` at the beginning or the end.

use std::collections::HashSet;

/// A text, or all texts that end, begin or hold it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// Reads one; `None` where `*` stands elsewhere than once at the beginning and once at the end.
    pub(super) fn parse(text: &str) -> Option<Pattern> {
        let pattern = Pattern { text: text.to_owned() };
        let only_stars = text.len() > 1 && pattern.fixed().is_empty();
        (!only_stars && !pattern.fixed().contains('*')).then_some(pattern)
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for one text only.
    pub fn is_exact(&self) -> bool {
        !self.begins_open() && !self.ends_open()
    }

    /// Whether `value` is one of the texts.
    pub fn matches(&self, value: &str) -> bool {
        match (self.begins_open(), self.ends_open()) {
            (false, false) => value == self.text,
            (false, true) => value.starts_with(self.fixed()),
            (true, false) => value.ends_with(self.fixed()),
            (true, true) => value.contains(self.fixed()),
        }
    }

    /// Whether one of the texts may begin so.
    pub(super) fn may_begin(&self, beginning: &str) -> bool {
        let fixed = self.fixed();
        self.begins_open() || fixed.starts_with(beginning) || self.ends_open() && beginning.starts_with(fixed)
    }

    /// The text without its wildcards.
    pub(super) fn fixed(&self) -> &str {
        let text = self.text.strip_prefix('*').unwrap_or(&self.text);
        text.strip_suffix('*').unwrap_or(text)
    }

    pub(super) fn begins_open(&self) -> bool {
        self.text.starts_with('*')
    }

    pub(super) fn ends_open(&self) -> bool {
        self.text.ends_with('*')
    }
}

/// Many patterns, asked at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PatternSet {
    pub(super) exact: HashSet<String>,
    pub(super) open: Vec<Pattern>,
}

impl PatternSet {
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> PatternSet {
        let mut set = PatternSet::default();
        for pattern in patterns {
            match pattern.is_exact() {
                true => drop(set.exact.insert(pattern.text.clone())),
                false => set.open.push(pattern.clone()),
            }
        }
        set
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        self.exact.contains(value) || self.open.iter().any(|pattern| pattern.matches(value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_begin_so_is_not_missed() {
        for (pattern, may) in [
            ("*", true),
            ("*get", true),
            ("sto*", true),
            ("storage:*", true),
            ("storage:s3:Get*", true),
            ("storage:get", true),
            ("storage", false),
            ("p:*", false),
        ] {
            assert_eq!(Pattern::parse(pattern).expect("a pattern").may_begin("storage:"), may, "{pattern}");
        }
    }

    #[test]
    fn wildcards_match_at_the_ends() {
        for (pattern, good, bad) in [
            ("a:b", "a:b", "a:bc"),
            ("a:*", "a:", "b:a:"),
            ("*:get", "x:get", "x:gets"),
            ("*jobs*", "a/jobs/b", "a/job/b"),
            ("*", "", "\u{0}"),
        ] {
            let pattern = Pattern::parse(pattern).expect("a pattern");
            assert!(pattern.matches(good), "{pattern:?} {good}");
            assert_eq!(pattern.matches(bad), pattern.as_str() == "*", "{pattern:?} {bad}");
            let set = PatternSet::new([&pattern, &pattern]);
            assert!(set.matches(good));
        }
        for wrong in ["a*b", "**", "***", "*a*b*", "a**"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
    }
}
