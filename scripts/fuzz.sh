#!/usr/bin/env bash
# Runs the fuzz targets one after another. Needs rustup, for a nightly compiler.
# Usage: scripts/fuzz.sh [SECONDS_EACH [TARGET...]]
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly CARGO_FUZZ_VERSION=0.13.1
readonly SECONDS_EACH=${1:-60}
shift || true

have rustup || fail "the fuzz targets need a nightly compiler" "install rustup"
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "building cargo-fuzz $CARGO_FUZZ_VERSION, once"
    cargo install --locked --quiet cargo-fuzz --version "$CARGO_FUZZ_VERSION"
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list)
fi
for target in "${targets[@]}"; do
    say "fuzzing $target for $SECONDS_EACH s"
    corpus=()
    if [ -d "fuzz/seeds/$target" ]; then
        mkdir -p "fuzz/corpus/$target"
        corpus=("fuzz/corpus/$target" "fuzz/seeds/$target")
    fi
    cargo +nightly fuzz run "$target" "${corpus[@]}" -- -max_total_time="$SECONDS_EACH" -rss_limit_mb=2048 -timeout=10
done
