//! `requirements.txt`, as far as it names packages of the index: PEP 508 without addresses, and `--hash`. Options, other
//! files and addresses are refused: they would lead elsewhere than the operator allows.

use super::{Fault, Request};

pub(super) fn parse(text: &str) -> Result<Request, Fault> {
    let mut request = Request::default();
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            line.pop();
            match lines.next() {
                Some((_, more)) => line.push_str(more),
                None => break,
            }
        }
        let line = without_comment(&line).trim();
        if line.is_empty() {
            continue;
        }
        let (name, requirement) =
            requirement(line).map_err(|Fault(why)| Fault(format!("line {}: '{}' {why}", number + 1, shown(line))))?;
        request.add(&name, requirement);
    }
    Ok(request)
}

/// The name and the whole of a requirement, written as pip reads it.
pub(super) fn requirement(line: &str) -> Result<(String, String), Fault> {
    let fault = |why: &str| Err(Fault(why.to_owned()));
    if line.starts_with('-') {
        return fault("is an option, which cannot be given here: one package a line");
    }
    let (line, hashes) = split_hashes(line)?;
    let name_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !edge(name.chars().next()) || !edge(name.chars().last()) || name.len() > LONGEST_NAME {
        return fault("does not begin with the name of a package");
    }
    let rest = rest.trim();
    if rest.starts_with('@') || line.contains("://") {
        return fault("has an address: packages come from the service's own index");
    }
    let (extras, rest) = match rest.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((extras, rest)) => (Some(extras), rest),
            None => return fault("has no end of its extras"),
        },
        None => (None, rest),
    };
    let (versions, marker) = match rest.split_once(';') {
        Some((versions, marker)) => (versions.trim(), Some(marker.trim())),
        None => (rest.trim(), None),
    };
    let only = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let versions = versions.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(versions).trim();
    let good_version = |part: &str| {
        let part = part.trim();
        let operator = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"].iter().find(|known| part.starts_with(**known));
        operator.is_some_and(|operator| {
            let version = part[operator.len()..].trim();
            !version.is_empty() && only(version, ".*+!_-")
        })
    };
    if !versions.is_empty() && !versions.split(',').all(good_version) {
        return fault("has versions that are not like '==1.2' or '>=1.2,<2'");
    }
    if !extras.is_none_or(|extras| only(extras, "._-, "))
        || !marker.is_none_or(|marker| only(marker, "._- '\"<>=!~(),"))
    {
        return fault("has extras or a marker with characters that those cannot have");
    }
    let mut whole = name.to_owned();
    if let Some(extras) = extras {
        whole.push_str(&format!("[{extras}]"));
    }
    whole.push_str(versions);
    if let Some(marker) = marker {
        whole.push_str(&format!(" ; {marker}"));
    }
    // pip takes a word that begins so for an option.
    if whole.split_whitespace().any(|word| word.starts_with('-')) {
        return fault("has a '-' where a word begins");
    }
    hashes.iter().for_each(|hash| whole.push_str(&format!(" --hash=sha256:{hash}")));
    Ok((name.to_owned(), whole))
}

/// Takes what follows ` --hash=sha256:` off a line; no other option may follow a requirement.
fn split_hashes(line: &str) -> Result<(&str, Vec<&str>), Fault> {
    let Some((requirement, options)) = line.split_once(" --") else { return Ok((line.trim(), Vec::new())) };
    let mut hashes = Vec::new();
    for option in options.split(" --") {
        match option.trim().strip_prefix("hash=sha256:") {
            Some(hash) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => hashes.push(hash),
            _ => return Err(Fault("has an option other than --hash=sha256:HEX".into())),
        }
    }
    Ok((requirement.trim(), hashes))
}

fn without_comment(line: &str) -> &str {
    match line.find(" #").or(line.find("\t#")) {
        _ if line.trim_start().starts_with('#') => "",
        Some(at) => &line[..at],
        None => line,
    }
}

fn shown(line: &str) -> String {
    line.escape_debug().take(100).collect()
}

const LONGEST_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_versions_extras_markers_and_hashes() {
        let hash = "a".repeat(64);
        let text = format!(
            "# the usual\nnumpy==1.26.4\n\nboto3[crt] >= 1.34, < 2 # storage\npyspark==3.5.0\n\
             tomli; python_version < '3.11'\npandas (~=2.2)\nsix==1.16.0 \\\n  --hash=sha256:{hash}\n"
        );
        let request = parse(&text).expect("valid");
        let hashed = format!("six==1.16.0 --hash=sha256:{hash}");
        assert_eq!(
            request.requirements,
            ["numpy==1.26.4", "boto3[crt]>= 1.34, < 2", "tomli ; python_version < '3.11'", "pandas~=2.2", &hashed]
        );
        assert_eq!(request.notes, ["left out: pyspark==3.5.0, which is the engine's own"]);
    }

    #[test]
    fn what_leads_elsewhere_is_refused_with_its_line() {
        for line in [
            "--index-url https://elsewhere.example",
            "-r other.txt",
            "-e .",
            "./local.whl",
            "/etc/passwd",
            "git+https://example.org/x.git",
            "x @ https://example.org/x.whl",
            "x @ file:///etc/passwd",
            "x==1 --config-settings=a=b",
            "x==1 --hash=md5:abc",
            "x[a",
            "x=1",
            "x==$HOME",
            "x==1;os_name=='${A}'",
            "x y",
            "x>= -e",
            "x;--config-settings=a",
            "x[ -e]",
            "-",
        ] {
            let fault = parse(&format!("numpy\n{line}\n")).expect_err(line);
            assert!(fault.0.starts_with("line 2: '"), "{line}: {fault}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_an_option_or_an_address(text in "\\PC{0,200}") {
            for line in parse(&text).map(|request| request.requirements).unwrap_or_default() {
                proptest::prop_assert!(line.starts_with(|c: char| c.is_ascii_alphanumeric()));
                proptest::prop_assert!(!line.contains('@') && !line.contains("://"));
                proptest::prop_assert!(line.split(" --").skip(1).all(|option| option.starts_with("hash=sha256:")));
            }
        }
    }
}
