#!/usr/bin/env bash
# Builds the program for the demo or for the tests, and prints its path.
# Usage: scripts/build.sh demo|test
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
    # Quick to build, quick enough to run.
    demo)
        cargo build --locked --profile demo --package casemate >&2
        say "${CARGO_TARGET_DIR:-$ROOT/target}/demo/casemate"
        ;;
    # The same build that the tests use, so that nothing is built twice.
    test)
        cargo test --locked --workspace --features casemate/failpoints --no-run >&2
        say "${CARGO_TARGET_DIR:-$ROOT/target}/debug/casemate"
        ;;
    *) fail "say what to build for: demo or test" ;;
esac
