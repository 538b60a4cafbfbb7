//! The S3 clients that people use, unmodified, against a running service (OBJ-1). boto3 and the AWS CLI are in `sdk.rs`
//! and in the tests of `objects`; S3A is in `jobs.rs`. A client's program, in `store_clients/`, is a list of laws and
//! runs each, so that a new ability of the store is one more function there.

mod support;

#[path = "store_clients/fuse.rs"]
mod fuse;
#[path = "store_clients/object_store.rs"]
mod object_store;
#[path = "store_clients/rclone.rs"]
mod rclone;
#[path = "store_clients/site.rs"]
mod site;

use std::process::Command;

use site::{Site, here};
use support::{checkout, go};

#[test]
fn the_go_sdk_does_what_programs_do() {
    let site = Site::plain();
    site.runs(Command::new(go(&site.stack, &here("go"))), "the Go SDK did everything");
}

/// Over TLS it signs no body, and puts the checksum behind the data.
#[test]
fn the_go_sdk_does_what_programs_do_over_tls() {
    let site = Site::tls();
    site.runs(Command::new(go(&site.stack, &here("go"))), "the Go SDK did everything");
}

#[test]
fn the_javascript_sdk_does_what_programs_do() {
    let site = Site::plain();
    site.runs(node(), "the JavaScript SDK did everything");
}

#[test]
fn the_javascript_sdk_does_what_programs_do_over_tls() {
    let site = Site::tls();
    site.runs(node(), "the JavaScript SDK did everything");
}

#[test]
fn s3fs_of_python_reads_and_writes_as_on_files() {
    let python = checkout().join(".cache/s3fs/bin/python");
    assert!(python.exists(), "no {}: run `make setup-test`, which makes it", python.display());
    let site = Site::plain();
    let mut command = Command::new(python);
    command.arg(here("fsspec_s3fs.py"));
    site.runs(command, "s3fs of Python did everything");
}

fn node() -> Command {
    let modules = checkout().join(".cache/store-node/node_modules");
    assert!(modules.exists(), "no {}: run `make setup-test`, which makes it", modules.display());
    let mut command = Command::new("node");
    command.arg(here("node/store.js")).env("NODE_PATH", modules);
    command
}
