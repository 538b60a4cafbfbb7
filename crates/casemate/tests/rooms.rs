//! The floors of ARCHITECTURE.md are true: every crate is in its table, and uses rooms on lower floors only.

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn a_room_uses_the_rooms_on_lower_floors_only() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let architecture = fs::read_to_string(checkout.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let floors: BTreeMap<String, u32> = architecture.lines().filter_map(floor).collect();
    let mut seen = 0;
    for entry in fs::read_dir(checkout.join("crates")).expect("crates").flatten() {
        let name = entry.file_name().into_string().expect("name");
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).expect("manifest");
        let manifest: toml::Table = toml::from_str(&manifest).expect("TOML");
        let own = floors.get(&name).unwrap_or_else(|| panic!("{name} is not in the table of rooms"));
        let used = manifest.get("dependencies").and_then(|value| value.as_table()).cloned().unwrap_or_default();
        for (used, lower) in used.keys().filter_map(|used| floors.get_key_value(used)) {
            // `model` is beneath the rest of its floor: the words that all rooms share.
            assert!(lower < own || (used == "model" && name != "model"), "{name} uses {used}, which is not below it");
        }
        seen += 1;
    }
    assert_eq!(seen, floors.len(), "the table of rooms names a room that is not there");
}

/// Name and floor of a line such as `| 2 | `jobs` | ...`.
fn floor(line: &str) -> Option<(String, u32)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let floor = cells.next()?.parse().ok()?;
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((name.to_owned(), floor))
}
