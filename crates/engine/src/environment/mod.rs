//! What a Python job's own environment is made from: `requirements.txt`, or `environment.yml` in conda's form; and how
//! pip makes it from wheels. No code of a package is run here: source distributions are refused.
//! Start at [`Request::parse`], then [`resolve::resolve`]; JARs by Maven coordinates: [`maven::resolve`].

mod conda;
pub mod maven;
mod requirements;
pub mod resolve;

use serde::{Deserialize, Serialize};

/// What to install, checked: each line is a requirement of PEP 508 without address or option.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Requirements as pip reads them, one a line.
    pub requirements: Vec<String>,
    /// What the versions of Python must be, as `==3.11`, all of them.
    pub python: Vec<String>,
    /// What was left out and why, for the log.
    pub notes: Vec<String>,
}

/// The form of a file that says what to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `requirements.txt` of pip.
    Requirements,
    /// `environment.yml` of conda.
    Conda,
}

impl Form {
    /// The form that a file has by its name.
    pub fn of(name: &str) -> Option<Form> {
        match name.rsplit_once('.')?.1 {
            "txt" => Some(Form::Requirements),
            "yml" | "yaml" => Some(Form::Conda),
            _ => None,
        }
    }
}

/// What is wrong with such a file, for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl Request {
    /// Reads a file of that form, of at most [`LONGEST_FILE`] bytes.
    pub fn parse(form: Form, bytes: &[u8]) -> Result<Request, Fault> {
        if bytes.len() > LONGEST_FILE {
            return Err(Fault(format!("it has more than {LONGEST_FILE} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault("it is not UTF-8".into()))?;
        let request = match form {
            Form::Requirements => requirements::parse(text)?,
            Form::Conda => conda::parse(text)?,
        };
        if request.requirements.len() > MOST_REQUIREMENTS {
            return Err(Fault(format!("it has more than {MOST_REQUIREMENTS} requirements")));
        }
        Ok(request)
    }

    /// Checks that a version of Python, such as `3.11`, is one that the file allows.
    pub fn check_python(&self, offered: &str) -> Result<(), Fault> {
        let have = version_pair(offered).unwrap_or_default();
        for rule in &self.python {
            let (operator, version) = rule.split_at(rule.find(|c: char| c.is_ascii_digit()).unwrap_or(rule.len()));
            let fits = version_pair(version).is_some_and(|wanted| match operator {
                "==" => wanted.0 == have.0 && (wanted.1 == have.1 || wanted.1.is_none()),
                ">=" => have >= wanted,
                "<=" => have <= wanted,
                // `<3.12.1` and `>3.11.0` are about a patch, which an image may have or not.
                "<" => have < wanted || (have == wanted && version.matches('.').count() > 1),
                ">" => have > wanted || (have == wanted && version.matches('.').count() > 1),
                "!=" => have != wanted || version.matches('.').count() > 1,
                _ => false,
            });
            if !fits {
                return Err(Fault(format!(
                    "it asks for Python {rule}, and jobs have Python {offered}: write python={offered}"
                )));
            }
        }
        Ok(())
    }

    /// Adds a requirement, unless it is part of the engine.
    fn add(&mut self, name: &str, line: String) {
        match normal(name).as_str() {
            "pyspark" | "py4j" => self.notes.push(format!("left out: {line}, which is the engine's own")),
            _ => self.requirements.push(line),
        }
    }
}

/// Major and minor version; no minor where any is meant.
fn version_pair(text: &str) -> Option<(u32, Option<u32>)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    match parts.next() {
        None | Some("*") => Some((major, None)),
        Some(minor) => Some((major, Some(minor.parse().ok()?))),
    }
}

/// A name as the index knows it (PEP 503).
fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            letter => normal.push(letter.to_ascii_lowercase()),
        }
    }
    normal
}

/// Bytes of a file that says what to install.
pub const LONGEST_FILE: usize = 64 * 1024;
const MOST_REQUIREMENTS: usize = 500;
