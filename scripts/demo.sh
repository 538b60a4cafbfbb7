#!/usr/bin/env bash
# Shows Casemate at work, on loopback, in a directory of its own: loads a real data set into a bucket, runs a PySpark
# job and a Java job on it, prints their live logs and their results. Ctrl-C ends it at any moment; at the end nothing
# of it is left on the machine but what `make setup-demo` installed.
# On a terminal it stays for you to try more, until Ctrl-C; DEMO_STAY=no ends it after the last step.
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

place=
up=
step_name=
step_start=0
timings=()

main() {
    [ "$(id -u)" -eq 0 ] || fail "the demo builds sandboxes, and needs root for that" "run: sudo make demo"
    trap clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    step "build"
    program=$(scripts/build.sh demo)
    step "start Casemate"
    start
    step "load the data set"
    load
    local newest oldest
    newest=$(engine_versions | tail -n 1)
    oldest=$(engine_versions | head -n 1)
    step "PySpark job on Spark $newest"
    run job submit --wait --engine-version "$newest" demo/flights.py "$bucket"
    step "Java job on Spark $oldest"
    compile "$oldest"
    run job submit --wait --engine-version "$oldest" --main-class Routes "$place/routes.jar" "$bucket"
    step "read the results back"
    show delays "What rain costs each carrier, in minutes of departure delay"
    show routes "The ten busiest routes"
    step ""
    finish
}

# Ends the running step with its time, and begins the next.
step() {
    local now=$EPOCHREALTIME
    if [ -n "$step_name" ]; then
        timings+=("$(awk -v a="$step_start" -v b="$now" -v name="$step_name" 'BEGIN { printf "%8.1f s  %s", b - a, name }')")
    fi
    step_name=$1
    step_start=$now
    [ -z "$1" ] || printf '\n== %s\n' "$1"
}

# The service drops to its own user, which must reach its data: so not below a private home directory.
start() {
    place=$(mktemp -d /var/tmp/casemate-demo.XXXXXX)
    chmod 755 "$place"
    "$program" up --data "$place/data" --engines "$CASEMATE_ENGINES" --api 127.0.0.1:0 --s3 127.0.0.1:0 \
        --ready-file "$place/ready.json" >"$place/up.log" 2>&1 &
    up=$!
    local tries
    for ((tries = 0; tries < 400; tries++)); do
        if [ -e "$place/ready.json" ]; then
            export CASEMATE_CONFIG=$place/data/first-run.toml
            grep -E '^(jobs API|object store):' "$place/up.log"
            return 0
        fi
        kill -0 "$up" 2>/dev/null || break
        sleep 0.1
    done
    cat "$place/up.log" >&2
    fail "Casemate did not start" "\`$program doctor\` says what this machine lacks"
}

load() {
    bucket=nycflights13
    "$VENV/bin/python" demo/data.py "$place/set"
    run bucket create "$bucket"
    local name
    for name in flights weather carriers; do
        run object put "$place/set/$name.parquet" "s3://$bucket/data/$name.parquet"
    done
}

compile() {
    mkdir "$place/classes"
    javac -Xlint:all -cp "$CASEMATE_ENGINES/spark-$1/jars/*" -Xlint:-path -Xlint:-classfile --release 17 -d "$place/classes" demo/java/Routes.java
    jar --create --file "$place/routes.jar" -C "$place/classes" .
    say "compiled demo/java/Routes.java to a JAR"
}

show() {
    local key
    key=$("$program" object list "s3://$bucket/results/$1/" --output json | "$VENV/bin/python" -c '
import json, sys
print(next(item["key"] for item in json.load(sys.stdin) if item["key"].endswith(".parquet")))')
    "$program" object get "s3://$bucket/$key" "$place/$1.parquet" >/dev/null
    printf '\n%s (s3://%s/%s)\n' "$2" "$bucket" "$key"
    "$VENV/bin/python" demo/show.py "$place/$1.parquet"
}

run() {
    say "\$ casemate ${*//"$place"/DEMO}"
    "$program" "$@"
}

finish() {
    printf '\n== times\n'
    printf '%s\n' "${timings[@]}"
    spark_submit_configuration >"$place/configuration.ini"
    cat <<END

== how to go on
The command line, with this service's keys:
  export CASEMATE_CONFIG=$CASEMATE_CONFIG
  $program job list
  $program job submit --wait demo/flights.py $bucket
The client of the old service, with $place/configuration.ini:
$(sed 's/^/  | /' "$place/configuration.ini")
  ovh-spark-submit --conf $place/configuration.ini --projectid $(profile project) --spark-version $(engine_versions | tail -n 1) \\
    --driver-cores 1 --driver-memory 1G --executor-cores 1 --executor-memory 1G --num-executors 1 \\
    swift://code/flights.py $bucket
  (put the main file there first: $program bucket create code; $program object put demo/flights.py s3://code/flights.py)
To keep Casemate, and not a demo of it: $program up --data /var/lib/casemate --engines $CASEMATE_ENGINES
END
    local stay=${DEMO_STAY:-auto}
    if [ "$stay" = no ] || { [ "$stay" = auto ] && ! [ -t 0 ]; }; then
        say "the demo ends here; what it used is removed"
        return 0
    fi
    say "Casemate goes on. Ctrl-C ends it and removes everything."
    wait "$up" || true
    cat "$place/up.log" >&2
    fail "Casemate ended by itself"
}

spark_submit_configuration() {
    cat <<END
[ovh]
endpoint=$(profile endpoint)
application_key=$(profile application_key)
application_secret=$(profile application_secret)
consumer_key=$(profile consumer_key)
END
}

# A value of the client configuration that the first start wrote.
profile() {
    "$VENV/bin/python" -c '
import sys, tomllib
print(tomllib.load(open(sys.argv[1], "rb"))["profile"]["default"][sys.argv[2]])' "$CASEMATE_CONFIG" "$1"
}

# Runs once, however the demo ends. `up` removes what it made on the machine; what is left then is our directory.
clean() {
    local status=$?
    trap '' INT TERM HUP
    if [ -n "$up" ]; then
        if kill -TERM "$up" 2>/dev/null; then
            say "stopping"
        fi
        wait "$up" 2>/dev/null || true
    fi
    if [ -n "$place" ]; then
        rm -rf --one-file-system "$place"
    fi
    exit "$status"
}

main "$@"
