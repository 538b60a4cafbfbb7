#!/usr/bin/env bash
# Runs one benchmark and prints a line for each of its targets: `target NAME: FIGURE, bound BOUND, met` (or `missed`).
# Usage: scripts/bench.sh job_start|api|memory|polling|checks|audit
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -eq 1 ] || fail "say which benchmark to run: job_start, api, memory, polling, checks or audit"
# The audit log needs no sandbox, and is measured without what surrounds it.
[ "$1" != audit ] || exec cargo bench --locked --package audit --bench log
[ "$(id -u)" -eq 0 ] || fail "the benchmarks build sandboxes, and need root for that"
exec cargo bench --locked --package casemate --bench "$1"
