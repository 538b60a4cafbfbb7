# Every command of this project. `make help` lists them.
# The work is in scripts/*.sh; a target here names one and says what it is for.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help demo test setup-demo setup-test lint bench-job-start bench-api bench-memory bench-audit bench-policy bench-scheduler bench-polling bench-checks bench-store fuzz clean

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: setup-demo ## Build, start Casemate on loopback, run two Spark jobs on real data; Ctrl-C ends it and leaves nothing
	@scripts/demo.sh

test: setup-test ## Run every check and test, on real engines in real containers
	@scripts/lint.sh
	@scripts/test.sh

setup-demo: ## Install what the demo needs; does nothing the second time
	@scripts/setup.sh demo

setup-test: ## Install what the tests need; does nothing the second time
	@scripts/setup.sh test

lint: setup-test ## Check format, clippy, licences and sources of crates, documentation, shell scripts
	@scripts/lint.sh

bench-job-start: setup-test ## Time from submit to COMPLETED, against bare spark-submit of the same JAR, in pairs
	@scripts/bench.sh job_start

bench-api: setup-test ## Time of a submit with 10,000 jobs in the database
	@scripts/bench.sh api

bench-memory: setup-test ## Resident memory of the service, the warden and a shim
	@scripts/bench.sh memory

bench-audit: ## Entries a second that the audit log takes, and that a check of it goes through
	@scripts/bench.sh audit

bench-policy: ## Time of a decision with 1,000 policies
	@cargo bench --locked --package identity --bench policy

bench-scheduler: ## Durable submits a second, the time of a decision with 10,000 waiting, of a submit with 1,000,000 jobs
	@cargo bench --locked --package jobs --bench scheduler

bench-polling: setup-test ## Processor time of the service while 1,000 clients ask for status and log each 2 s
	@scripts/bench.sh polling

bench-checks: setup-test ## Latency of calls while many clients send wrong passwords or wrong signatures
	@scripts/bench.sh checks

bench-store: setup-test ## The object store against MinIO and SeaweedFS; OPTIONS="--quick" for less, "--help" for the rest
	@scripts/bench-store.sh $(OPTIONS)

fuzz: ## Run each fuzz target for a minute; needs rustup, for a nightly compiler
	@scripts/fuzz.sh

clean: ## Remove what was built; what was installed into .cache stays
	@cargo clean
