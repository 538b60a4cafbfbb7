//! The actions that there are: the reference list against which policies are checked.

use std::collections::BTreeSet;

use super::Pattern;

/// Names of actions.
#[derive(Debug, Clone, Default)]
pub struct Actions {
    names: BTreeSet<String>,
    any: bool,
}

impl Actions {
    /// These.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Actions {
        Actions { names: names.into_iter().map(str::to_owned).collect(), any: false }
    }

    /// Whatever is named.
    pub(super) fn any() -> Actions {
        Actions { names: BTreeSet::new(), any: true }
    }

    /// Whether there is an action of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.any || self.names.contains(name)
    }

    /// Whether a pattern stands for one of them at least.
    pub(super) fn has(&self, pattern: &Pattern) -> bool {
        if pattern.is_exact() {
            return self.contains(pattern.as_str());
        }
        self.any || self.names.iter().any(|name| pattern.matches(name))
    }
}
