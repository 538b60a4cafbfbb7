//! What a command says when it cannot do its work: `error:` what, `cause:` why, `help:` what to do.

use std::fmt::Display;

/// A failure of a command, for the person at the terminal.
#[derive(Debug)]
pub struct Failure {
    what: String,
    causes: Vec<String>,
    help: Option<String>,
}

impl Failure {
    /// What is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), help: None }
    }

    /// Adds why.
    pub fn cause(mut self, cause: impl Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds an error with all that caused it.
    pub fn because(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        self.causes.extend(model::causes(error).map(ToString::to_string));
        self
    }

    /// What is wrong, without the causes.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do about it.
    pub fn way_out(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", self.what)?;
        for cause in &self.causes {
            write!(f, "\ncause: {cause}")?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns any error into a [`Failure`] that says what was being done.
pub trait Doing<T> {
    /// `what` is a sentence such as `cannot open the database`.
    fn doing(self, what: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|cause| Failure::new(what).cause(cause))
    }
}
