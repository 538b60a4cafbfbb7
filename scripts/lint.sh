#!/usr/bin/env bash
# Checks what can be checked without running anything: format, lints, crates, documentation, scripts.
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

main() {
    say "lint: format"
    cargo fmt --all --check
    say "lint: clippy"
    cargo clippy --locked --workspace --all-targets --features casemate/failpoints -- --deny warnings
    say "lint: licences, sources and duplicates of crates"
    cargo deny --locked check bans licenses sources
    advisories
    # Private items are documented too, so links to them lead somewhere.
    say "lint: documentation"
    RUSTDOCFLAGS="--deny warnings --allow rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items --quiet
    say "lint: shell scripts"
    shellcheck scripts/*.sh .ci/run
}

# The database of advisories is a Git repository on the public network. Where that cannot be reached the check
# says so and goes on: what it would find depends on the day, not on this tree.
advisories() {
    say "lint: advisories"
    if ! cargo deny fetch db >"$CACHE/advisories.log" 2>&1; then
        say "lint: advisories were NOT checked: their database cannot be fetched from here ($CACHE/advisories.log)"
        return 0
    fi
    cargo deny --locked check advisories
}

main
