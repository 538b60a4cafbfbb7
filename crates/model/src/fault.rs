//! Faults of input: all of them at once, each with its field, its value and what would be right.

use std::fmt;

/// One thing that is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field as the client named it, such as `driver_cores` or `ttl`.
    pub field: String,
    /// What was given; `None` where nothing was.
    pub value: Option<String>,
    /// What is wrong and what would be right, one sentence without a full stop.
    pub message: String,
    /// The end of the error class that clients know, such as `odp.job.executorMemory.tooBig`.
    pub class: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "'{value}': {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// All the faults of one input; never empty once returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, field: &str, value: Option<&str>, class: &str, message: impl Into<String>) {
        self.0.push(Fault {
            field: field.to_owned(),
            value: value.map(|text| text.chars().take(200).collect()),
            message: message.into(),
            class: class.to_owned(),
        });
    }

    /// `value` if there is no fault, else the faults.
    pub fn or<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {fault}", fault.field)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
