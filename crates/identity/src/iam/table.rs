//! Which of many patterns stand for a text, without asking each of them.

use std::collections::{BTreeSet, HashMap};

use super::Pattern;

/// Numbers by the patterns that they were added with.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<String, Vec<usize>>,
    /// `TEXT*`, and `*`, which begins with nothing.
    beginnings: Ends,
    /// `*TEXT`.
    endings: Ends,
    /// `*TEXT*`: these alone are asked one by one.
    parts: HashMap<String, Vec<usize>>,
}

/// Numbers by the beginnings or endings of texts, which are looked up once for each length that there is.
#[derive(Debug, Default)]
struct Ends {
    by_text: HashMap<String, Vec<usize>>,
    lengths: BTreeSet<usize>,
}

impl Table {
    /// Adds a number under a pattern.
    pub(super) fn add(&mut self, pattern: &Pattern, number: usize) {
        let text = pattern.fixed();
        match (pattern.begins_open(), pattern.ends_open()) {
            (false, false) => self.add_exact(text, number),
            // Of `*` alone both are so.
            (true, true) if text.is_empty() => self.beginnings.add(text, number),
            (false, true) => self.beginnings.add(text, number),
            (true, false) => self.endings.add(text, number),
            (true, true) => self.parts.entry(text.to_owned()).or_default().push(number),
        }
    }

    fn add_exact(&mut self, text: &str, number: usize) {
        self.exact.entry(text.to_owned()).or_default().push(number);
    }

    /// Marks the numbers of all patterns that stand for `text`.
    pub(super) fn mark(&self, text: &str, marks: &mut Marks) {
        let parts = self.parts.iter().filter(|(part, _)| text.contains(part.as_str())).map(|(_, numbers)| numbers);
        let beginnings = self.beginnings.lengths.range(..=text.len());
        let beginnings = beginnings.filter_map(|length| self.beginnings.by_text.get(text.get(..*length)?));
        let endings = self.endings.lengths.range(..=text.len());
        let endings = endings.filter_map(|length| self.endings.by_text.get(text.get(text.len() - length..)?));
        for numbers in self.exact.get(text).into_iter().chain(beginnings).chain(endings).chain(parts) {
            numbers.iter().for_each(|number| marks.set(*number));
        }
    }

    /// Marks the numbers of this text itself, whatever wildcards stand for it.
    pub(super) fn mark_exact(&self, text: &str, marks: &mut Marks) {
        self.exact.get(text).into_iter().flatten().for_each(|number| marks.set(*number));
    }
}

impl Ends {
    fn add(&mut self, text: &str, number: usize) {
        self.by_text.entry(text.to_owned()).or_default().push(number);
        self.lengths.insert(text.len());
    }
}

/// A set of numbers below a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks(Vec<u64>);

impl Marks {
    /// None of the numbers below `bound`.
    pub(super) fn none(bound: usize) -> Marks {
        Marks(vec![0; bound.div_ceil(64)])
    }

    /// Adds a number.
    pub(super) fn set(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// Leaves what `others` has too.
    pub(super) fn keep(&mut self, others: &Marks) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether it has a number.
    pub(super) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| (word >> (number % 64)) & 1 == 1)
    }

    /// The numbers, rising.
    pub(super) fn numbers(&self) -> Vec<usize> {
        let mut numbers = Vec::new();
        for (index, word) in self.0.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                numbers.push(index * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_finds_what_each_pattern_by_itself_says(
            patterns in proptest::collection::vec("\\*?[aé:]{0,3}\\*?", 0..200),
            texts in proptest::collection::vec("[aé:]{0,5}", 1..20),
        ) {
            let patterns: Vec<Pattern> = patterns.iter().filter_map(|text| Pattern::parse(text)).collect();
            let mut table = Table::default();
            for (number, pattern) in patterns.iter().enumerate() {
                table.add(pattern, number);
            }
            for text in &texts {
                let mut marks = Marks::none(patterns.len());
                table.mark(text, &mut marks);
                let right = |exact: bool| {
                    let of = |(_, pattern): &(usize, &Pattern)| pattern.matches(text) && (!exact || pattern.is_exact());
                    patterns.iter().enumerate().filter(of).map(|(number, _)| number).collect::<Vec<_>>()
                };
                prop_assert_eq!(marks.numbers(), right(false));
                let mut marks = Marks::none(patterns.len());
                table.mark_exact(text, &mut marks);
                prop_assert_eq!(marks.numbers(), right(true));
            }
        }

        #[test]
        fn marks_are_sets(one in proptest::collection::btree_set(0..200_usize, 0..50), other in proptest::collection::btree_set(0..200_usize, 0..50)) {
            let marks = |numbers: &BTreeSet<usize>| {
                let mut marks = Marks::none(200);
                numbers.iter().for_each(|number| marks.set(*number));
                marks
            };
            let mut kept = marks(&one);
            kept.keep(&marks(&other));
            prop_assert_eq!(kept.numbers(), one.intersection(&other).copied().collect::<Vec<_>>());
            prop_assert!((0..300).all(|number| kept.has(number) == (one.contains(&number) && other.contains(&number))));
        }
    }
}
