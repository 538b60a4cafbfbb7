//! A secret in the forms that it may have where it does not belong, and the files that are searched for it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use memchr::memmem::Finder;
use serde_json::Value;

/// A secret in all the forms that are searched for.
pub struct Planted {
    /// What it is.
    pub name: String,
    forms: Vec<Finder<'static>>,
}

impl Planted {
    /// In its forms.
    pub fn new(name: &str, secret: &str) -> Planted {
        // Keys of bytes come as Latin-1.
        let raw: Option<Vec<u8>> = secret.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
        let mut forms = vec![secret.as_bytes().to_vec()];
        for bytes in [Some(secret.as_bytes().to_vec()), raw].into_iter().flatten() {
            // Only whole groups: what follows a secret changes the last digits. In a longer text it may begin anywhere.
            for skipped in 0..3 {
                let part = &bytes[skipped.min(bytes.len())..];
                let part = &part[..part.len() / 3 * 3];
                forms.push(STANDARD.encode(part).into_bytes());
                forms.push(URL_SAFE.encode(part).into_bytes());
            }
            forms.push(hex::encode(&bytes).into_bytes());
            forms.push(hex::encode_upper(&bytes).into_bytes());
            forms.push(bytes);
        }
        forms.retain(|form| form.len() >= SHORTEST);
        assert!(!forms.is_empty(), "{name} is too short to be searched for");
        forms.sort();
        forms.dedup();
        let forms = forms.iter().map(|form| Finder::new(form).into_owned()).collect();
        Planted { name: name.to_owned(), forms }
    }

    /// Whether one of them stands there.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| form.find(bytes).is_some())
    }
}

/// Something that was written, by a name for people.
pub type Written = (String, Vec<u8>);

/// All files below a directory; links are not followed.
pub fn files(data: &Path) -> Vec<Written> {
    let mut found = Vec::new();
    let mut rest: Vec<PathBuf> = vec![data.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(&dir).expect("directory").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                rest.push(entry.path());
            } else if kind.is_file() {
                // One that goes while it is looked for was temporary.
                let Ok(bytes) = fs::read(entry.path()) else { continue };
                found.push((entry.path().display().to_string(), bytes));
            }
        }
    }
    assert!(found.len() > 5, "{}", found.len());
    found
}

/// What `plant.py` says that it planted, and the answers of errors that it got. It must have come to its end.
pub fn said(output: &str) -> Option<(Vec<Planted>, Vec<Written>)> {
    let lines: Vec<Value> = output.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
    lines.last().filter(|line| line["done"] == true)?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let planted = lines.iter().filter(|line| line["secret"].is_string());
    let planted = planted.map(|line| Planted::new(&word(&line["name"]), &word(&line["secret"]))).collect();
    let answers = lines.iter().filter(|line| line["error"].is_string());
    let written =
        |line: &Value| (format!("the answer of {}", word(&line["error"])), word(&line["answer"]).into_bytes());
    Some((planted, answers.map(written).collect()))
}

/// Which of these secrets stand where.
pub fn found(planted: &[Planted], places: &[Written]) -> Vec<String> {
    let all = places.iter().flat_map(|(place, bytes)| {
        planted.iter().filter(|one| one.is_in(bytes)).map(move |one| format!("{} is in {place}", one.name))
    });
    all.collect()
}

/// Which of these secrets stand in answers. What a caller sent in the place of a name may be sent back to it; what is a
/// secret of its kind may not.
pub fn found_in_answers(planted: &[Planted], answers: &[Written]) -> Vec<String> {
    let all = answers.iter().flat_map(|(place, bytes)| {
        let own = planted.iter().filter(|one| !STRAY.iter().any(|word| one.name.contains(word)));
        own.filter(|one| one.is_in(bytes)).map(move |one| format!("{} is in {place}", one.name))
    });
    all.collect()
}

/// Sent as the program that calls, which the audit log keeps: the search must find it.
pub const CONTROL: &str = "planted-control-agent";
/// The name of an object: the search must find it.
pub const CONTROL_OBJECT: &str = "planted-control-key";
/// Shorter texts stand everywhere by chance.
const SHORTEST: usize = 8;
/// Names of secrets that were put where none belongs.
const STRAY: [&str; 4] = ["password as", "password in", "secret as", "secret in"];
