# Each target installs what it lacks, then runs. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
CARGO_TEST_FLAGS := --locked --features demo,failpoints

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing for everything below (apt, rustup)
	@scripts/setup.sh all

.PHONY: demo
demo: ## load made-up objects from an embedded S3 into a throwaway PostgreSQL; KEEP=1 keeps it running, DATA=DIR uploads that folder
	@scripts/setup.sh demo
	@args=(); \
	if [[ $${KEEP:-0} != 0 ]]; then args+=(--keep); fi; \
	if [[ -n $${DATA:-} ]]; then args+=(--data "$$DATA"); fi; \
	exec $(CARGO) run --locked --features demo -- demo "$${args[@]}"

.PHONY: test
test: ## format, lints and all tests
	@scripts/setup.sh test
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --test e2e --features demo,failpoints -- -D warnings
	$(CARGO) test $(CARGO_TEST_FLAGS)

.PHONY: faults
faults: ## break the program at every step, all cases; SEED=N repeats a run, CASE="F07 F20" chooses, JOBS=N at once
	@scripts/setup.sh faults
	$(CARGO) test $(CARGO_TEST_FLAGS) --test faults -- $(or $(CASE),--all) $(SEED:%=--seed %) $(JOBS:%=--jobs %)

.PHONY: e2e
e2e: ## from PUT over the event to the row with LocalStack and moto; ARGS=moto takes one of them
	@scripts/setup.sh e2e
	$(CARGO) test $(CARGO_TEST_FLAGS) --test e2e -- $(ARGS)

.PHONY: soak
soak: ## two instances, 200 lives ended by random SIGKILLs, then a flat line; SEED=N, LIVES=N
	@scripts/setup.sh test
	$(CARGO) test $(CARGO_TEST_FLAGS) --test faults -- soak --lives $(or $(LIVES),200) $(SEED:%=--seed %)

.PHONY: storm
storm: ## 100 000 objects out of order, three instances killed all the time; OBJECTS=N, SEED=N
	@scripts/setup.sh test
	$(CARGO) test $(CARGO_TEST_FLAGS) --test faults -- storm --objects $(or $(OBJECTS),100000) $(SEED:%=--seed %)

.PHONY: mutants
mutants: ## take guards away one by one and look whether the fault lab notices; ARGS=F07 takes one
	@scripts/setup.sh test
	scripts/mutants.sh $(ARGS)

.PHONY: lint
lint: ## format, lints, shell scripts and alerting rules, no other tests
	@scripts/setup.sh lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --test e2e --features demo,failpoints -- -D warnings
	shellcheck .ci/run scripts/*.sh
	promtool check rules deploy/prometheus/alerts.yml
	promtool test rules deploy/prometheus/alerts.test.yml

.PHONY: gates
gates: ## the security gates, one line each; ONLY="S01 S28" runs some
	@scripts/setup.sh gates
	@scripts/gates.sh $(ONLY)

.PHONY: bench
bench: ## measure against psql on this machine; ARGS are passed on
	@scripts/setup.sh demo
	$(CARGO) bench --locked --features demo --bench load -- $(ARGS)

.PHONY: bench-peers
bench-peers: ## the same with other loaders beside it
	@scripts/setup.sh demo
	$(CARGO) bench --locked --features demo --bench load -- peers $(ARGS)

# No corpus is grown in place: what libFuzzer finds goes to target/, the committed seeds stay small.
FUZZ := $(CARGO) +nightly fuzz
TIME ?= 60

.PHONY: fuzz
fuzz: ## fuzz each target for TIME seconds (60); needs a nightly toolchain and cargo-fuzz
	@$(CARGO) +nightly --version >/dev/null 2>&1 || \
	    { echo "fuzzing needs a nightly toolchain: rustup toolchain install nightly --profile minimal" >&2; exit 1; }
	@$(CARGO) fuzz --version >/dev/null 2>&1 || \
	    { echo "fuzzing needs cargo-fuzz: cargo install cargo-fuzz --version '^0.13' --locked" >&2; exit 1; }
	$(FUZZ) build --target-dir target/fuzz
	@for target in fuzz/corpus/*; do \
	    target=$$(basename "$$target"); \
	    mkdir -p "target/fuzz/corpus/$$target"; \
	    echo "== $$target, $(TIME) s"; \
	    $(FUZZ) run --target-dir target/fuzz "$$target" "target/fuzz/corpus/$$target" "fuzz/corpus/$$target" -- \
	        -max_total_time=$(TIME) -rss_limit_mb=2048 -print_final_stats=1; \
	done

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean
