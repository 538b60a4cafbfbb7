#!/usr/bin/env bash
# Runs all tests: units, and whole services with real engines in real containers. Needs root, as the warden does.
# Arguments go to `cargo test`, so that `scripts/test.sh --test jobs` runs a part.
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ "$(id -u)" -eq 0 ] || fail "the tests build sandboxes, and need root for that" "run them as root, on a machine that may be touched"
say "test: engines $(engine_versions | paste -sd ' ') of $CASEMATE_ENGINES"
exec cargo test --locked --workspace --features casemate/failpoints "$@"
