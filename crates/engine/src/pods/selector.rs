//! Label and field selectors. Honoured to the letter: if dead executors of others count as live, Spark asks for no new.

use serde_json::Value;

use super::status::Refusal;

/// All of its terms must hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector(Vec<Term>);

#[derive(Debug, Clone)]
enum Term {
    Label { key: String, among: Vec<String>, wanted: bool },
    Present { key: String, wanted: bool },
    Name(String),
}

impl Selector {
    /// `a=b,c!=d,e in (f,g),h notin (i),j,!k`
    pub(super) fn add_labels(&mut self, text: &str) -> Result<(), Refusal> {
        for term in split_outside_parentheses(text) {
            self.0.push(
                Term::read(term.trim()).ok_or_else(|| {
                    Refusal::new(400, "BadRequest", format!("unable to parse requirement: {term:.80}"))
                })?,
            );
        }
        Ok(())
    }

    /// Only `metadata.name=NAME`, which is what clients ask with for one pod.
    pub(super) fn add_fields(&mut self, text: &str) -> Result<(), Refusal> {
        for term in text.split(',').filter(|term| !term.is_empty()) {
            match term.split_once('=') {
                Some(("metadata.name", name)) => self.0.push(Term::Name(name.trim_start_matches('=').to_owned())),
                _ => return Err(Refusal::new(400, "BadRequest", format!("field label not supported: {term:.80}"))),
            }
        }
        Ok(())
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        self.0.iter().all(|term| match term {
            // As in Kubernetes, an object without the label satisfies `!=` and `notin`.
            Term::Label { key, among, wanted } => {
                label(key).is_some_and(|value| among.iter().any(|one| one == value)) == *wanted
            }
            Term::Present { key, wanted } => label(key).is_some() == *wanted,
            Term::Name(name) => object["metadata"]["name"] == **name,
        })
    }
}

impl Term {
    fn read(text: &str) -> Option<Term> {
        let set = |rest: &str| -> Option<Vec<String>> {
            let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
        };
        let term = if let Some((key, rest)) = text.split_once(" notin ") {
            Term::Label { key: key.trim().to_owned(), among: set(rest)?, wanted: false }
        } else if let Some((key, rest)) = text.split_once(" in ") {
            Term::Label { key: key.trim().to_owned(), among: set(rest)?, wanted: true }
        } else if let Some((key, value)) = text.split_once("!=") {
            Term::Label { key: key.trim().to_owned(), among: vec![value.trim().to_owned()], wanted: false }
        } else if let Some((key, value)) = text.split_once('=') {
            let value = value.trim_start_matches('=').trim();
            Term::Label { key: key.trim().to_owned(), among: vec![value.to_owned()], wanted: true }
        } else if let Some(key) = text.strip_prefix('!') {
            Term::Present { key: key.trim().to_owned(), wanted: false }
        } else {
            Term::Present { key: text.to_owned(), wanted: true }
        };
        let (Term::Label { key, .. } | Term::Present { key, .. }) = &term else { return None };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        (!key.is_empty() && key.chars().all(valid)).then_some(term)
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().filter(|term| !term.trim().is_empty()).collect()
}
