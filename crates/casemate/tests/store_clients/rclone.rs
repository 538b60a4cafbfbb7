//! rclone: what backups and migrations do.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    site::{Site, bytes},
    support::text,
};

#[test]
fn rclone_synchronizes_checks_moves_streams_and_purges() {
    let site = Site::plain();
    let rclone = Rclone(&site);
    let dir = site.stack.dir.join("tree");
    let large = bytes((66 << 20) + 77);
    let content = tree(&dir, &large);
    let from = dir.to_str().expect("path");

    rclone.run(&["mkdir", "C:rclone"]);
    assert!(rclone.run(&["lsd", "C:"]).contains("rclone"));
    rclone.run(&["sync", from, "C:rclone/in"]);
    // By size and MD5, then by every byte.
    rclone.run(&["check", from, "C:rclone/in"]);
    rclone.run(&["check", "--download", from, "C:rclone/in"]);
    assert_eq!(rclone.list("C:rclone/in"), content);

    // A sync sends what changed, and removes what is gone: nothing the second time.
    assert!(rclone.run(&["sync", "-v", "--use-json-log", "--stats-one-line", from, "C:rclone/in"]).is_empty());
    fs::write(dir.join("two words/ü/x+y %20&=~"), "changed").expect("file");
    fs::remove_file(dir.join("empty")).expect("file");
    rclone.run(&["sync", from, "C:rclone/in"]);
    rclone.run(&["check", "--download", from, "C:rclone/in"]);
    assert_eq!(rclone.run(&["cat", "C:rclone/in/two words/ü/x+y %20&=~"]), "changed");

    // Within the store, in one copy and in parts.
    rclone.run(&["moveto", "C:rclone/in/large", "C:rclone/moved"]);
    rclone.run(&["copyto", "--s3-copy-cutoff", "16M", "C:rclone/moved", "C:rclone/in/large"]);
    rclone.run(&["check", "--download", from, "C:rclone/in"]);
    let part = rclone.output(&["cat", "--offset", "65530", "--count", "12", "C:rclone/moved"], &[]);
    assert_eq!(part, &large[65530..65542]);

    // A stream whose length nobody knows before: in chunks.
    rclone.output(&["rcat", "C:rclone/stream"], &large[..20 << 20]);
    assert!(rclone.output(&["cat", "C:rclone/stream"], &[]) == large[..20 << 20], "the stream came back changed");

    let before = rclone.list("C:rclone/in");
    rclone.run(&["move", "C:rclone/in", "C:rclone/out"]);
    assert_eq!(rclone.list("C:rclone/out"), before);
    assert_eq!(rclone.list("C:rclone/in"), BTreeSet::new());
    // Times come back as they were, out of the metadata.
    let back = site.stack.dir.join("back");
    rclone.run(&["copy", "C:rclone/out", back.to_str().expect("path")]);
    let modified = |place: &Path| fs::metadata(place.join("large")).and_then(|about| about.modified()).expect("time");
    assert_eq!(modified(&back), modified(&dir));

    let link = rclone.run(&["link", "--expire", "1m", "C:rclone/out/two words/ü/x+y %20&=~"]);
    assert_eq!(fetch(link.trim()), "changed");
    rclone.run(&["cleanup", "C:rclone"]);
    rclone.run(&["purge", "C:rclone"]);
    assert_eq!(rclone.run(&["lsd", "C:"]), "");
}

struct Rclone<'a>(&'a Site);

impl Rclone<'_> {
    /// Runs it, and gives what it printed.
    fn run(&self, arguments: &[&str]) -> String {
        text(&self.output(arguments, &[]))
    }

    fn output(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let stack = &self.0.stack;
        let mut child = Command::new("rclone")
            .args(["--s3-upload-cutoff", "16M", "--s3-chunk-size", "8M", "--transfers", "8", "--checkers", "8"])
            .args(["--retries", "1", "--low-level-retries", "1"])
            .args(arguments)
            .env("RCLONE_CONFIG", "/dev/null")
            .env("RCLONE_CONFIG_C_TYPE", "s3")
            .env("RCLONE_CONFIG_C_PROVIDER", "Other")
            .env("RCLONE_CONFIG_C_ENDPOINT", stack.text("s3"))
            .env("RCLONE_CONFIG_C_REGION", stack.profile("region"))
            .env("RCLONE_CONFIG_C_ACCESS_KEY_ID", stack.s3("access_key"))
            .env("RCLONE_CONFIG_C_SECRET_ACCESS_KEY", stack.s3("secret_key"))
            // It refuses to start with authorities of its SDK's own.
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rclone runs: `make setup-test` installs it");
        child.stdin.take().expect("its input").write_all(input).expect("it reads its input");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "rclone {arguments:?}: {}\n{}", text(&output.stderr), stack.log());
        output.stdout
    }

    /// Names of all files below a place.
    fn list(&self, place: &str) -> BTreeSet<String> {
        self.run(&["lsf", "-R", "--files-only", place]).lines().map(str::to_owned).collect()
    }
}

/// Files of many kinds, more than a page of a list; their names.
fn tree(dir: &Path, large: &[u8]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        ["empty", "two words/ü/x+y %20&=~", "quote'\"#?", "日本語/漢字"].map(str::to_owned).into();
    names.extend((0..1100).map(|number| format!("many/{number}")));
    for name in &names {
        let place = dir.join(name);
        fs::create_dir_all(place.parent().expect("a directory")).expect("directory");
        fs::write(place, if name == "empty" { "" } else { name.as_str() }).expect("file");
    }
    fs::write(dir.join("large"), large).expect("file");
    names.insert("large".to_owned());
    names
}

/// What a URL gives, to a client that knows nothing of S3.
fn fetch(url: &str) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async { reqwest::get(url).await?.error_for_status()?.text().await }).expect("the link works")
}
