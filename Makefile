# Fluyt. `make help` lists the targets; the two that a newcomer needs are `make run` and `make test`.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

VENV := .build/venv
PY := $(VENV)/bin/python
PYTEST := $(PY) -m pytest
# Much of what the tests do is waiting. A file's tests stay in one process and in order; 0 is one process for all.
TEST_PROCESSES := $(or $(FLUYT_TEST_PROCESSES),2)

.PHONY: help setup setup-test run example test test-rust test-python test-v2 test-quotas test-nfs test-selinux test-systemd bench-systemd test-host-users test-weakened fuzz soak audit lint fmt proto errors lock bench doctor ci clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install what building and running needs, build the extension and the command line
	@scripts/setup.sh run

setup-test: ## As setup, with the tools that the tests use as judges
	@scripts/setup.sh test

run: setup ## Start a daemon on its own roots, build an image, run a container from it by gRPC
	@$(PY) examples/first_container.py

example: setup-test ## Pull a Debian root file system from a real local registry and run it with limits
	@$(PY) examples/limits_from_registry.py

test: setup-test ## Run every test this host can run, then list what was skipped and why
	@$(MAKE) --no-print-directory lint audit test-rust test-python

test-rust: ## The core's and the command line's own tests (needs setup-test once)
	@export FLUYT_SUPERVISOR=$(CURDIR)/server/fluytd/libexec/fluyt-supervisor FLUYT_SUPERVISOR_PREBUILT=$(CURDIR)/server/fluytd/libexec/fluyt-supervisor
	cargo test --quiet --locked --workspace --exclude fluyt-bindings

test-python: ## Contract, unit, integration, end-to-end and recovery tests (needs setup-test once)
	@$(PY) -m tests.suite $(TEST_PROCESSES)

test-v2: setup-test ## Lives, limits, devices and profiles of containers on Debian's own kernel with control groups v2 alone, emulated (minutes)
	@KEEP_SECONDS=3600 scripts/in_v2_kernel.sh env FLUYT_TEST_PATIENCE_SECONDS=300 $(PYTEST) -q --color=no --timeout 300 -p no:cacheprovider --basetemp=/tmp/tests \
	    tests/e2e/containers/test_cgroup.py tests/e2e/containers/test_update.py tests/e2e/containers/test_pause.py \
	    tests/e2e/containers/test_further_limits.py tests/e2e/containers/test_lifecycle.py tests/e2e/containers/test_stats.py \
	    tests/e2e/containers/test_devices.py tests/e2e/containers/test_seccomp_and_modules.py tests/e2e/containers/test_apparmor.py \
	    tests/e2e/volumes/test_mounts.py

test-quotas: setup-test ## Bounds of volumes and writable layers on ext4 and xfs with project quotas, on the same kernel (minutes)
	@scripts/in_v2_kernel.sh env FLUYT_TEST_PATIENCE_SECONDS=300 $(PYTEST) -q --color=no --timeout 300 -p no:cacheprovider --basetemp=/tmp/tests \
	    tests/e2e/volumes/test_quotas.py tests/recovery/test_quotas_killed.py

test-nfs: setup-test ## Volumes that an NFS server exports, on the same kernel, which has client and server (minutes)
	@scripts/debian_packages.sh nfs-kernel-server
	@scripts/in_v2_kernel.sh env FLUYT_TEST_PATIENCE_SECONDS=300 $(PYTEST) -q --color=no --timeout 300 -p no:cacheprovider --basetemp=/tmp/tests \
	    tests/e2e/volumes/test_nfs.py

test-selinux: setup-test ## What labels of SELinux keep containers from, on the same kernel, which has it, with a policy of its own (minutes)
	@scripts/debian_packages.sh checkpolicy
	@KERNEL_ARGUMENTS="security=selinux selinux=1 enforcing=0" scripts/in_v2_kernel.sh env FLUYT_TEST_PATIENCE_SECONDS=300 $(PYTEST) -q --color=no --timeout 300 \
	    -p no:cacheprovider --basetemp=/tmp/tests tests/e2e/selinux

test-systemd: setup-test ## Containers in scopes of a real systemd, the first process of that machine (minutes)
	@FIRST_PROCESS=systemd scripts/in_v2_kernel.sh env FLUYT_TEST_PATIENCE_SECONDS=300 $(PYTEST) -q --color=no --timeout 300 -p no:cacheprovider --basetemp=/tmp/tests \
	    tests/e2e/systemd tests/recovery/test_scopes_killed.py

bench-systemd: setup ## What a start costs where systemd makes the groups, beside the engine making them, on that machine (minutes)
	@FIRST_PROCESS=systemd scripts/in_v2_kernel.sh env FLUYT_TEST_PATIENCE_SECONDS=300 TMPDIR=/run $(PY) -m bench.scopes

test-host-users: setup-test ## Containers and attacks once more where containers have the host's users (minutes)
	@FLUYT_TEST_USERNS=host $(PYTEST) tests/e2e/containers tests/e2e/execs tests/security

test-weakened: setup-test ## Run each attack of tests/security against a build that lacks the fence which stops it (minutes)
	@scripts/weakened.sh
	$(PY) -m tests.security.without_fences

fuzz: setup-test ## Damage the kept inputs of tests/data/fuzz for FLUYT_FUZZ_SECONDS (600), from seed FLUYT_FUZZ_SEED on
	@$(PY) -m tests.security.fuzz.run $${FLUYT_FUZZ_SECONDS:-600} $${FLUYT_FUZZ_SEED:-1000}

soak: setup-test ## Drive containers at random for thousands of steps, killing daemon and supervisors (FLUYT_TEST_STEPS, FLUYT_TEST_SEED)
	@FLUYT_TEST_SEED=$${FLUYT_TEST_SEED:-$$RANDOM} FLUYT_TEST_STEPS=$${FLUYT_TEST_STEPS:-5000} $(PYTEST) tests/recovery/test_lives.py -s

audit: ## Licences, sources and duplicates of crates; advisories where their data can be had
	@scripts/audit.sh

lint: ## rustfmt, clippy, ruff, mypy, stubtest
	@cargo fmt --all --check
	FLUYT_SUPERVISOR_PREBUILT=$(CURDIR)/server/fluytd/libexec/fluyt-supervisor cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy server/fluytd clients/python/fluyt tests bench examples
	MYPYPATH=server:clients/python $(PY) -m mypy.stubtest fluytd._core --allowlist tests/contract/stubtest_allowlist.txt

fmt: ## Format everything
	@cargo fmt --all
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

proto: ## Regenerate the Python messages and the frozen descriptor from proto/
	@$(PY) clients/python/generate.py

errors: ## Regenerate docs/errors.md from the catalogue
	@PYTHONPATH=server $(PY) -m fluytd.errors > docs/errors.md

lock: ## Pin requirements/*.in anew into requirements/*.txt
	@$(PY) -m venv .build/lock
	.build/lock/bin/pip install --quiet pip-tools
	.build/lock/bin/pip-compile --quiet --upgrade --allow-unsafe --generate-hashes --strip-extras --no-header \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements/dev.txt requirements/dev.in
	.build/lock/bin/pip-compile --quiet --upgrade --allow-unsafe --generate-hashes --strip-extras --no-header \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements/audit.txt requirements/audit.in

bench: setup ## Time this engine beside every peer that is installed, in one run
	@cargo build --quiet --release --locked -p fluyt-cli --example bench_client
	$(PY) -m bench

doctor: setup ## What this host can do for containers
	@target/release/fluyt doctor

ci: ## What .ci/run calls: exactly `make test`
	@$(MAKE) --no-print-directory test

clean: ## Drop everything that was built
	@rm -rf .build target server/fluytd/libexec server/fluytd/*.so
