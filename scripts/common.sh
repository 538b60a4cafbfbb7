# shellcheck shell=bash
# What all scripts share: places, and how they speak. Sourced, never run.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$ROOT/.cache
VENV=$CACHE/venv
readonly ROOT CACHE VENV

# Packages of the user's own directories come after those of this checkout: `pip` of the engines' installer too.
export PATH="$VENV/bin:${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
cd "$ROOT"

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'help: %s\n' "$2" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Whether the service's user can come to a directory: a checkout below a private directory hides it.
service_reaches() {
    local at=$1
    while [ "$at" != / ]; do
        # The last octal digit holds the execute bit of others.
        [ $(($(stat -c %a "$at") % 2)) -eq 1 ] || return 1
        at=$(dirname "$at")
    done
}

# The engines, shared by demo, tests and benchmarks. The service reads them as its own user.
engines_home() {
    if [ -n "${CASEMATE_ENGINES:-}" ]; then
        say "$CASEMATE_ENGINES"
    elif service_reaches "$ROOT"; then
        say "$CACHE/engines"
    else
        say /var/cache/casemate/engines
    fi
}
CASEMATE_ENGINES=$(engines_home)
export CASEMATE_ENGINES

# Installed engine versions, oldest first.
engine_versions() {
    local place
    for place in "$CASEMATE_ENGINES"/spark-[0-9]*; do
        [ -d "$place/jars" ] && basename "$place" | sed 's/^spark-//'
    done | sort -V
}
