//! An error with what caused it.

use std::error::Error;

/// An error, then what caused it, down to the first cause.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error with its causes as one line, for a log.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Of(&'static str, #[source] Option<Box<Of>>);

    #[test]
    fn a_chain_names_every_cause_in_order() {
        let error = Of("the end", Some(Box::new(Of("the way", Some(Box::new(Of("the start", None)))))));
        assert_eq!(chain(&error), "the end: the way: the start");
        assert_eq!(causes(&error).count(), 3);
        assert_eq!(chain(&Of("alone", None)), "alone");
    }
}
