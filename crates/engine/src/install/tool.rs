//! Runs the programs that an install drives, and passes on what they say.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::Progress;
use crate::Error;

/// Runs a program to its end. Its lines go to `progress`; the last of them are in the error.
pub(super) fn run(
    doing: &str,
    command: &mut Command,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<String>, Error> {
    let failed = |why: String| Error::Tool { doing: doing.to_owned(), why };
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe().map_err(|cause| failed(cause.to_string()))?;
    let second = writer.try_clone().map_err(|cause| failed(cause.to_string()))?;
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(second).spawn();
    let mut child = child.map_err(|cause| failed(format!("cannot start {name}: {cause}")))?;
    // The command still holds the writing ends; a fresh one lets go of them.
    *command = Command::new(&name);
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = plain(&String::from_utf8_lossy(&line));
        if !line.is_empty() {
            progress(Progress::Detail(line.clone()));
            lines.push(line);
        }
        if lines.len() > 2 * KEPT {
            lines.drain(..KEPT);
        }
    }
    let status = child.wait().map_err(|cause| failed(cause.to_string()))?;
    if status.success() {
        return Ok(lines);
    }
    let errors: Vec<&str> = lines.iter().filter(|line| line.contains("ERROR")).map(String::as_str).collect();
    let said = if errors.is_empty() { lines[lines.len().saturating_sub(6)..].join("; ") } else { errors[0].to_owned() };
    Err(failed(format!("{name} ended with {status}: {said}")))
}

/// A line without the codes of colours that programs write.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                letters.by_ref().find(char::is_ascii_alphabetic);
            }
            letter if letter.is_control() => {}
            letter => text.push(letter),
        }
    }
    text.trim().to_owned()
}

const KEPT: usize = 200;
