//! s3fs: a bucket as a mounted directory.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use crate::{
    site::{Site, bytes},
    support::{file, text, wait_for},
};

#[test]
fn a_mounted_bucket_is_a_directory() {
    let site = Site::plain();
    let made = site.stack.run(&["bucket", "create", "mounted"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mount = Mount::new(&site);
    let at = |name: &str| mount.dir.join(name);

    fs::write(at("one"), "hello\n").expect("it writes");
    assert_eq!(fs::read_to_string(at("one")).expect("it reads"), "hello\n");
    fs::rename(at("one"), at("two words +%ü")).expect("it renames");
    assert!(!at("one").exists());
    let mut appended = fs::OpenOptions::new().append(true).open(at("two words +%ü")).expect("it opens");
    appended.write_all(b"more\n").expect("it appends");
    drop(appended);
    assert_eq!(site.stack.get("mounted", "two words +%ü"), b"hello\nmore\n", "the same by S3");
    site.stack.put(&file(&site.stack.dir, "other", b"by S3"), "mounted", "outside");
    assert_eq!(fs::read_to_string(at("outside")).expect("it reads"), "by S3");

    // Over the size of a part, so in parts; renamed by copies of parts; written in the middle.
    let mut large = bytes((66 << 20) + 5);
    fs::create_dir(at("dir")).expect("directory");
    fs::write(at("dir/large"), &large).expect("it writes");
    fs::rename(at("dir/large"), at("dir/moved")).expect("it renames");
    let open = fs::OpenOptions::new().read(true).write(true).open(at("dir/moved")).expect("it opens");
    open.write_all_at(b"in the middle", 33 << 20).expect("it writes");
    open.sync_all().expect("it is durable");
    drop(open);
    large[33 << 20..(33 << 20) + 13].copy_from_slice(b"in the middle");
    assert!(site.stack.get("mounted", "dir/moved") == large, "the large file is another");
    mount.forget();
    let mut open = fs::File::open(at("dir/moved")).expect("it opens");
    open.seek(SeekFrom::Start(65_530)).expect("it seeks");
    let mut part = [0; 12];
    open.read_exact(&mut part).expect("it reads");
    assert_eq!(part, large[65_530..65_542]);
    drop(open);

    fs::OpenOptions::new().write(true).open(at("dir/moved")).and_then(|file| file.set_len(100)).expect("it cuts");
    assert!(site.stack.get("mounted", "dir/moved") == large[..100]);
    fs::set_permissions(at("outside"), fs::Permissions::from_mode(0o640)).expect("it changes modes");
    mount.forget();
    assert_eq!(fs::metadata(at("outside")).expect("it is there").permissions().mode() & 0o777, 0o640);
    std::os::unix::fs::symlink("outside", at("link")).expect("it links");
    assert_eq!(fs::read_to_string(at("link")).expect("it follows"), "by S3");

    for number in 0..60 {
        fs::write(at(&format!("dir/{number}")), number.to_string()).expect("it writes");
    }
    mount.forget();
    assert_eq!(names(&mount.dir), ["dir", "link", "outside", "two words +%ü"]);
    assert_eq!(names(&at("dir")).len(), 61);
    let full = fs::remove_dir(at("dir")).expect_err("a directory that is not empty stays");
    assert_eq!(full.kind(), std::io::ErrorKind::DirectoryNotEmpty);
    fs::rename(at("dir"), at("renamed")).expect("it renames directories");
    assert_eq!(names(&at("renamed")).len(), 61);
    fs::remove_dir_all(at("renamed")).expect("it removes");
    mount.end();
    assert_eq!(site.stack.keys("mounted", ""), ["link", "outside", "two words +%ü"]);
}

/// A mounted bucket; unmounted when it is dropped.
struct Mount {
    dir: PathBuf,
    child: Child,
}

impl Mount {
    fn new(site: &Site) -> Mount {
        let stack = &site.stack;
        let dir = stack.dir.join("mount");
        fs::create_dir(&dir).expect("directory");
        let keys = format!("{}:{}", stack.s3("access_key"), stack.s3("secret_key"));
        let keys = file(&stack.dir, "s3fs-keys", keys.as_bytes());
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("mode");
        let log = fs::File::create(stack.dir.join("s3fs.log")).expect("log");
        let options = format!(
            "passwd_file={},url={},endpoint={},use_path_request_style,multipart_size=10,retries=1,enable_content_md5",
            keys.display(),
            stack.text("s3"),
            stack.profile("region"),
        );
        // In the foreground, so that it is our child.
        let child = Command::new("s3fs")
            .arg("mounted")
            .arg(&dir)
            .args(["-f", "-o", &options])
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("s3fs runs: `make setup-test` installs it");
        let mut mount = Mount { dir, child };
        let place = mount.dir.to_str().expect("path").to_owned();
        wait_for("s3fs to mount", Duration::from_secs(20), || {
            let ended = mount.child.try_wait().expect("s3fs");
            assert!(ended.is_none(), "{}", fs::read_to_string(stack.dir.join("s3fs.log")).unwrap_or_default());
            fs::read_to_string("/proc/mounts").expect("mounts").contains(&place)
        });
        mount
    }

    /// Has the kernel ask again for what it may have kept of names and pages.
    fn forget(&self) {
        fs::write("/proc/sys/vm/drop_caches", "3").expect("the kernel drops what it can");
    }

    /// Unmounts it in order.
    fn end(mut self) {
        self.unmount(&["-u"]);
        let status = self.child.wait().expect("s3fs ends");
        assert!(status.success(), "s3fs ended with {status}");
    }

    fn unmount(&self, how: &[&str]) {
        let unmounted = Command::new("fusermount").args(how).arg(&self.dir).output().expect("fusermount runs");
        assert!(unmounted.status.success(), "{}", text(&unmounted.stderr));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.unmount(&["-u", "-z"]);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What is in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
