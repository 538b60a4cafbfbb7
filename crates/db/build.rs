//! Migrations are embedded when this crate is compiled: compile it again when they change.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
