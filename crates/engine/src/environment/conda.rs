//! `environment.yml` of conda, as far as it maps to packages of a Python index
//! (<https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html>). YAML is read as events,
//! with bounds and without aliases, which could make a small file a large tree.

use saphyr_parser::{Event, Parser};

use super::{Fault, Request, requirements};

pub(super) fn parse(text: &str) -> Result<Request, Fault> {
    let mut request = Request::default();
    let Node::Map(fields) = tree(text)? else { return Err(Fault("it is no map of names and values".into())) };
    let Some((_, dependencies)) = fields.into_iter().find(|(name, _)| name == "dependencies") else {
        return Err(Fault("it has no list 'dependencies'".into()));
    };
    let Node::List(dependencies) = dependencies else { return Err(Fault("its 'dependencies' are no list".into())) };
    for dependency in dependencies {
        match dependency {
            Node::Text(spec) => conda_package(&spec, &mut request)?,
            Node::Map(fields) => pip_packages(fields, &mut request)?,
            Node::List(_) => return Err(Fault("'dependencies' has a list in the list".into())),
        }
    }
    Ok(request)
}

/// The `pip` list among the dependencies.
fn pip_packages(fields: Vec<(String, Node)>, request: &mut Request) -> Result<(), Fault> {
    for (name, packages) in fields {
        let (true, Node::List(packages)) = (name == "pip", packages) else {
            return Err(Fault(format!("'{}' among the dependencies is no list 'pip'", shown(&name))));
        };
        for package in packages {
            let Node::Text(line) = package else { return Err(Fault("'pip' has more than texts".into())) };
            let (name, line) = requirements::requirement(line.trim())
                .map_err(|Fault(why)| Fault(format!("pip: '{}' {why}", shown(&line))))?;
            request.add(&name, line);
        }
    }
    Ok(())
}

/// `channel::name`, with a version as conda writes it: `=1.2`, `==1.2`, `>=1.2,<2`, ` 1.2.*`, and a build that is of no
/// use elsewhere.
fn conda_package(spec: &str, request: &mut Request) -> Result<(), Fault> {
    let fault = |why: &str| Fault(format!("'{}' {why}", shown(spec)));
    let package = spec.rsplit_once("::").map_or(spec, |(_, package)| package).trim();
    let end = package.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(package.len());
    let (name, version) = package.split_at(end);
    let name = name.to_ascii_lowercase();
    let versions =
        versions(version.trim()).ok_or_else(|| fault("has a version that is not like '=1.2' or '>=1.2,<2'"))?;
    if name == "python" {
        request.python.extend(versions);
        return Ok(());
    }
    if name == "pip" || LIBRARIES.contains(&name.as_str()) || name.starts_with('_') {
        if name != "pip" {
            request.notes.push(format!("left out: {}, which is conda's own; wheels bring what they need", shown(spec)));
        }
        return Ok(());
    }
    if name.starts_with("r-") || NOT_PYTHON.contains(&name.as_str()) {
        return Err(fault("is no Python package: bring a packed environment (`conda pack`), which has it"));
    }
    let named = RENAMED.iter().find(|(conda, _)| *conda == name).map_or(name.as_str(), |(_, index)| index);
    let (known, line) =
        requirements::requirement(&format!("{named}{}", versions.join(","))).map_err(|Fault(why)| fault(&why))?;
    request.add(&known, line);
    Ok(())
}

/// The versions of a conda specification as PEP 440 has them.
fn versions(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if text.is_empty() || text == "*" {
        return Some(Vec::new());
    }
    text.split(',').map(|part| one_version(part.trim())).collect()
}

fn one_version(text: &str) -> Option<String> {
    let plain = |version: &str| {
        !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || ".*+!_".contains(c))
    };
    let exactly = |version: &str| (plain(version) && !version.contains('*')).then(|| format!("=={version}"));
    for operator in [">=", "<=", "!=", "~=", ">", "<"] {
        if let Some(version) = text.strip_prefix(operator) {
            return plain(version.trim()).then(|| format!("{operator}{}", version.trim()));
        }
    }
    let any_of = |version: &str| {
        let base = version.trim_end_matches('*').trim_end_matches('.');
        (plain(base) && !base.contains('*')).then(|| format!("=={base}.*"))
    };
    if let Some(version) = text.strip_prefix("==") {
        return if version.ends_with('*') { any_of(version.trim()) } else { exactly(version.trim()) };
    }
    let text = text.strip_prefix('=').unwrap_or(text).trim();
    match text.split_once(['=', ' ']) {
        // With a build, the version before it is exact.
        Some((version, _build)) => exactly(version.trim()),
        None => any_of(text),
    }
}

/// YAML without aliases, tags and types: all that such a file needs.
#[derive(Debug)]
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// What is being read: a list, or a map with the name whose value comes next.
enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

fn tree(text: &str) -> Result<Node, Fault> {
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|cause| Fault(format!("it is not YAML: {cause}")))?;
        let node = match event {
            Event::Alias(_) => return Err(Fault("it has a YAML alias, which is not read here".into())),
            Event::Scalar(text, ..) => Node::Text(text.into_owned()),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err(Fault("it is nested too deeply".into()));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Node::List(items),
                Some(Open::Map(fields, _)) => Node::Map(fields),
                None => continue,
            },
            Event::DocumentStart(_) if whole.is_some() => return Err(Fault("it has a second document".into())),
            _ => continue,
        };
        match (open.last_mut(), node) {
            (None, node) => whole = Some(node),
            (Some(Open::List(items)), node) => items.push(node),
            (Some(Open::Map(fields, name)), node) => match (name.take(), node) {
                (Some(known), node) => fields.push((known, node)),
                (None, Node::Text(text)) => *name = Some(text),
                (None, _) => return Err(Fault("a name in it is no text".into())),
            },
        }
    }
    whole.ok_or_else(|| Fault("it is empty".into()))
}

fn shown(text: &str) -> String {
    text.escape_debug().take(100).collect()
}

const DEEPEST: usize = 8;

/// Packages that the index has by another name.
const RENAMED: [(&str, &str); 8] = [
    ("pytorch", "torch"),
    ("py-xgboost", "xgboost"),
    ("matplotlib-base", "matplotlib"),
    ("seaborn-base", "seaborn"),
    ("dask-core", "dask"),
    ("msgpack-python", "msgpack"),
    ("pytables", "tables"),
    ("py-opencv", "opencv-python-headless"),
];

/// What conda brings below Python, and wheels bring in themselves.
const LIBRARIES: [&str; 20] = [
    "blas",
    "bzip2",
    "ca-certificates",
    "icu",
    "intel-openmp",
    "libblas",
    "libcblas",
    "libffi",
    "libgcc-ng",
    "libgfortran-ng",
    "liblapack",
    "libstdcxx-ng",
    "mkl",
    "ncurses",
    "openblas",
    "openssl",
    "readline",
    "sqlite",
    "xz",
    "zlib",
];

/// Programs of other languages, which no wheel replaces.
const NOT_PYTHON: [&str; 8] = ["cudatoolkit", "cxx-compiler", "gcc", "gdal", "go", "nodejs", "openjdk", "r"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_services_example() {
        let text = "name: environment\nchannels:\n  - conda-forge\n  - defaults\nprefix: /opt/conda\ndependencies:\n  - python=3.11\n  \
            - numpy=1.26\n  - conda-forge::pandas==2.2.1\n  - scipy=1.13.0=py311h64a7726_0\n  - pytorch>=2,<3\n  - scikit-learn 1.4.*\n  \
            - openssl=3\n  - _libgcc_mutex=0.1=main\n  - requests\n  - pip\n  - pip:\n    - boto3==1.34.0\n    - pyspark\n";
        let request = parse(text).expect("valid");
        assert_eq!(
            request.requirements,
            [
                "numpy==1.26.*",
                "pandas==2.2.1",
                "scipy==1.13.0",
                "torch>=2,<3",
                "scikit-learn==1.4.*",
                "requests",
                "boto3==1.34.0"
            ]
        );
        assert_eq!(request.python, ["==3.11.*"]);
        assert_eq!(request.notes.len(), 3, "{:?}", request.notes);
        request.check_python("3.11").expect("the same");
        let fault = request.check_python("3.12").expect_err("another");
        assert!(fault.0.contains("write python=3.12"), "{fault}");
    }

    #[test]
    fn versions_of_python() {
        for (rule, fits) in [
            ("python", true),
            ("python=3", true),
            ("python=3.11.4", true),
            ("python>=3.9,<3.12", true),
            ("python<3.12.1", true),
            ("python=3.9", false),
            ("python>=3.12", false),
            ("python<3.11", false),
            ("python=2.7", false),
            ("python!=3.11", false),
        ] {
            let request = parse(&format!("dependencies: ['{rule}']")).expect(rule);
            assert_eq!(request.check_python("3.11").is_ok(), fits, "{rule}");
        }
    }

    #[test]
    fn what_is_no_environment_is_refused() {
        for text in [
            "",
            "- a",
            "name: x",
            "dependencies: text",
            "dependencies: [[a]]",
            "dependencies: [{npm: [x]}]",
            "dependencies: [{pip: [{a: b}]}]",
            "dependencies: [{pip: ['-e .']}]",
            "dependencies: ['a=1|2']",
            "dependencies: [openjdk]",
            "dependencies: [r-base=4]",
            "dependencies: ['../x']",
            "a: &a [1]\ndependencies: *a",
            "dependencies: [a]\n---\ndependencies: [b]",
            "dependencies: [[[[[[[[[[a]]]]]]]]]]",
            "dependencies: [a",
            "? [a]\n: b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,100}", spec in "[a-z=<>.*0-9,| ]{0,20}") {
            let _ = parse(&text);
            let _ = parse(&format!("dependencies:\n  - '{spec}'\n"));
        }
    }
}
