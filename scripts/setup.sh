#!/usr/bin/env bash
# Installs what the demo or the tests need, says what it does, and does nothing where that is there already.
# Usage: scripts/setup.sh demo|test
# Into the system: Debian packages that are missing, and cargo-deny for the tests. All else goes into .cache.
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly SDK=$ROOT/crates/casemate/tests/programs/sdk
readonly STORE=$ROOT/crates/casemate/tests/store_clients
readonly CARGO_DENY_VERSION=0.20.2
readonly DELTA_VERSION=3.3.2
readonly KEYCLOAK_VERSION=26.5.6
readonly RUST_VERSION=1.95
readonly NODE_VERSION=20
readonly GO_VERSION=1.24

main() {
    case ${1:-} in
        demo | test) ;;
        *) fail "say what to set up: demo or test" ;;
    esac
    mkdir -p "$CACHE"
    rust_toolchain "$1"
    debian_packages "$1"
    python_environment "$VENV" scripts/requirements.txt
    if [ "$1" = test ]; then
        node_and_go
        python_environment "$CACHE/s3fs" "$STORE/requirements.txt"
        node_modules "$CACHE/node" "$SDK/node"
        node_modules "$CACHE/store-node" "$STORE/node"
        go_modules "$SDK/go"
        go_modules "$STORE/go"
        go_modules "$ROOT/crates/casemate/tests/programs/swift/go"
        cargo_deny
        delta_jars
        keycloak
    fi
    engines "$1"
}

rust_toolchain() {
    local asked="install one with rustup: $RUST_VERSION or newer"
    have cargo || fail "there is no Rust toolchain" "$asked"
    newer "$(rustc --version | cut -d ' ' -f 2)" "$RUST_VERSION" || fail "the Rust toolchain is $(rustc --version)" "$asked"
    [ "$1" = test ] || return 0
    local missing=()
    cargo fmt --version >/dev/null 2>&1 || missing+=(rustfmt)
    cargo clippy --version >/dev/null 2>&1 || missing+=(clippy)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "adding to the Rust toolchain: ${missing[*]}"
    rustup component add "${missing[@]}"
}

debian_packages() {
    local missing=()
    have cc || missing+=(build-essential)
    # The container runtime, the network tools and the file system tools of the warden.
    have runc || missing+=(runc)
    have nft || missing+=(nftables)
    have ip || missing+=(iproute2)
    have mkfs.ext4 || missing+=(e2fsprogs)
    # Java 17 for Spark; a compiler for the JARs of demo and tests.
    if ! have javac || ! java_17; then
        missing+=(openjdk-17-jdk-headless)
    fi
    # Python of the jobs: the distribution's, since a container sees no other.
    [ -x /usr/bin/python3 ] || missing+=(python3)
    # Packages of Python jobs are installed by the Python that jobs have.
    /usr/bin/python3 -I -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    # Brings S3A and its SDK from Maven when an engine is installed.
    have mvn || missing+=(maven)
    if [ "$1" = test ]; then
        have node || missing+=(nodejs)
        have npm || missing+=(npm)
        have go || missing+=(golang-go)
        have openssl || missing+=(openssl)
        have shellcheck || missing+=(shellcheck)
        # A browser with a virtual security key, driven by the tests.
        have chromium || missing+=(chromium)
        have chromedriver || missing+=(chromium-driver)
        # Clients of the object store.
        have rclone || missing+=(rclone)
        have s3fs || missing+=(s3fs)
        have fusermount || missing+=(fuse3)
    fi
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "Debian packages are missing: ${missing[*]}" "run this as root, or install them: apt-get install ${missing[*]}"
    have apt-get || fail "this is not Debian, and these programs are missing: ${missing[*]}" "install them by your own means"
    say "installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$CACHE/apt.log" 2>&1 || {
        tail -n 20 "$CACHE/apt.log" >&2
        fail "Debian packages could not be installed" "the whole log is in $CACHE/apt.log"
    }
}

# Clients of others that the tests run are written for newer ones than every distribution has.
node_and_go() {
    newer "$(node --version | tr -d v)" "$NODE_VERSION" || fail "Node is $(node --version)" "install $NODE_VERSION or newer: https://nodejs.org"
    newer "$(go env GOVERSION | tr -d go)" "$GO_VERSION" || fail "Go is $(go env GOVERSION)" "install $GO_VERSION or newer: https://go.dev/dl"
}

# Whether a version is as new as another, or newer.
newer() {
    [ "$(printf '%s\n' "$2" "$1" | sort --version-sort | head -n 1)" = "$2" ]
}

java_17() {
    local home
    for home in ${JAVA_HOME:+"$JAVA_HOME"} /usr/lib/jvm/*; do
        if [ -x "$home/bin/java" ] && grep -qs '^JAVA_VERSION="17' "$home/release"; then
            return 0
        fi
    done
    return 1
}

# An environment PLACE with the packages of a list.
python_environment() {
    local place=$1 list=$2
    local stamp=$place/.requirements
    if cmp -s "$list" "$stamp"; then
        return 0
    fi
    say "making a Python environment in .cache/${place##*/}"
    [ -x "$place/bin/python" ] || python3 -m venv "$place"
    "$place/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list"
    cp "$list" "$stamp"
}

# Packages of Node in PLACE, as a lock file says.
node_modules() {
    local place=$1 of=$2
    if [ -d "$place/node_modules" ] && cmp -s "$of/package-lock.json" "$place/package-lock.json"; then
        return 0
    fi
    say "installing packages of Node into .cache/${place##*/}"
    mkdir -p "$place"
    cp "$of/package.json" "$of/package-lock.json" "$place/"
    npm ci --prefix "$place" --silent --no-audit --no-fund || {
        rm -f "$place/package-lock.json"
        fail "the packages of Node could not be installed"
    }
}

# Modules of a program in Go, into the cache of Go.
go_modules() {
    if (cd "$1" && GOFLAGS=-mod=readonly GOPROXY=off go list -deps . >/dev/null 2>&1); then
        return 0
    fi
    say "fetching the Go modules of ${1#"$ROOT/"}"
    (cd "$1" && go mod download) || fail "the Go modules could not be fetched" "Go must be $(sed -n 's/^go //p' "$1/go.mod") or newer"
}

cargo_deny() {
    if have cargo-deny; then
        return 0
    fi
    say "building cargo-deny $CARGO_DENY_VERSION; this takes some minutes, once"
    cargo install --locked --quiet cargo-deny --version "$CARGO_DENY_VERSION"
}

# Delta Lake for Spark 3.5: jobs of the tests bring it along, as its users do.
delta_jars() {
    local place=$CACHE/delta name
    [ "$(cat "$place/version" 2>/dev/null)" = "$DELTA_VERSION" ] && return 0
    say "fetching Delta Lake $DELTA_VERSION into .cache/delta"
    mkdir -p "$place"
    for name in delta-spark_2.12 delta-storage; do
        mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
            -Dartifact="io.delta:$name:$DELTA_VERSION" -DoutputDirectory="$place" -Dmdep.stripVersion=true ||
            fail "Delta Lake could not be fetched"
    done
    mv "$place/delta-spark_2.12.jar" "$place/delta-spark.jar"
    say "$DELTA_VERSION" >"$place/version"
}

# Keycloak: an identity provider of others, at which people of the tests log in.
keycloak() {
    local place=$CACHE/keycloak
    [ "$(cat "$place/version" 2>/dev/null)" = "$KEYCLOAK_VERSION" ] && return 0
    say "fetching Keycloak $KEYCLOAK_VERSION into .cache/keycloak: 160 MB, once"
    rm -rf "$place"
    mkdir -p "$place/home"
    mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
        -Dartifact="org.keycloak:keycloak-quarkus-dist:$KEYCLOAK_VERSION:tar.gz" -DoutputDirectory="$place" \
        -Dmdep.stripVersion=true || fail "Keycloak could not be fetched"
    tar --extract --gzip --file "$place/keycloak-quarkus-dist.tar.gz" --directory "$place/home" --strip-components=1
    rm "$place/keycloak-quarkus-dist.tar.gz"
    say "$KEYCLOAK_VERSION" >"$place/version"
}

# Spark 3.5 and Spark 4, side by side, by the program itself.
engines() {
    local program home whole=true
    # One that was installed before Spark's committers for object stores came with it is installed anew; what else an older
    # one lacks, the program makes.
    for home in "$CASEMATE_ENGINES"/spark-[0-9]*; do
        if [ -d "$home/jars" ] && ! compgen -G "$home/jars/*spark-hadoop-cloud_*.jar" >/dev/null; then
            say "removing ${home##*/}, which lacks Spark's committers for object stores"
            rm -rf "$home"
        elif [ -d "$home/jars" ] && ! [ -f "$home/jars/casemate-waiting.jar" ]; then
            whole=false
        fi
    done
    if [ "$(engine_versions | wc -l)" -ge 2 ] && $whole; then
        return 0
    fi
    program=$(scripts/build.sh "$1")
    say "installing the engines into $CASEMATE_ENGINES, or what they lack: some 1 GB to fetch, once"
    mkdir -p "$CASEMATE_ENGINES"
    chmod 755 "$CASEMATE_ENGINES"
    "$program" engine install --engines "$CASEMATE_ENGINES"
}

main "$@"
