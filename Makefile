# Tailrace: make alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
# Options of pytest, manage.py or the benchmarks: make test ARGS="-k drain -x"
ARGS ?=
# How many processes test side by side, each with servers of its own; 0: in make's own, as
# a debugger wants it. "logical" is one a core.
PROCESSES ?= logical
# Seconds after which `make demo` ends by itself; 0 is until Ctrl-C.
DURATION ?= 0
# The demo's port; 0 takes a free one.
PORT ?= 0
DEMO_DIR ?= .demo

BIN := $(VENV)/bin
SOURCES := pipeline backends django_integration
EXTRAS_test := [postgres,influxdb,parquet]
EXTRAS_bench := [postgres,influxdb,parquet]
EXTRAS_lint := [postgres,influxdb,parquet]

.DEFAULT_GOAL := help
.PHONY: help demo manage test lint types build bench soak clean
.DELETE_ON_ERROR:
# A stamp that a pattern rule made is not a leftover to be deleted.
.SECONDARY:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.ready-demo ## shop, Redis, workers and visitors on this machine; DURATION=20 ends by itself
	@cd tests && exec "$(abspath $(BIN))/python" -m project.demo \
	    --directory "$(abspath $(DEMO_DIR))" --duration $(DURATION) --port $(PORT) $(ARGS)

manage: $(VENV)/.ready-demo ## manage.py of the running demo: make manage ARGS=tailrace_status
	@test -f "$(DEMO_DIR)/env" || { echo "No demo here: start one with 'make demo'." >&2; exit 1; }
	@. "$(abspath $(DEMO_DIR))/env" && cd tests && exec "$(abspath $(BIN))/python" manage.py $(ARGS)

test: $(VENV)/.ready-test $(VENV)/.provided ## run every test; ARGS are pytest's
	$(BIN)/pytest --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.ready-lint ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-lint .typing ## check types
	$(BIN)/mypy $(SOURCES:%=-p tailrace.%)

build: $(VENV)/.ready-lint ## make the wheel and the sdist in dist/
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .

bench: $(VENV)/.ready-bench ## measure cost and throughput beside the peers; takes minutes
	@cd tests && exec "$(abspath $(BIN))/python" -m benchmarks $(ARGS)

soak: $(VENV)/.ready-bench ## run under load for long, with faults; 30 minutes without ARGS
	@cd tests && exec "$(abspath $(BIN))/python" -m benchmarks.soak $(ARGS)

clean: ## remove everything that make has made
	rm -rf .venv .demo .typing build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Type checkers do not see the editable install's import hook; these links have the names.
.typing: Makefile
	@mkdir -p .typing/tailrace
	@for part in $(SOURCES); do ln -sfn "../../$$part" ".typing/tailrace/$$part"; done
	@touch .typing

$(VENV)/.ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Tailrace needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (once)..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

# Programs that no wheel ships. The script makes the stamp, where it could do its work.
$(VENV)/.provided: tests/provide_system.sh | $(VENV)/.ready
	@sh tests/provide_system.sh $@

# One stamp a dependency group; a changed pyproject.toml installs again.
$(VENV)/.ready-%: pyproject.toml | $(VENV)/.ready
	@echo "Installing Tailrace with its group '$*' into $(VENV)..."
	@$(BIN)/python -m pip install -qq --editable '.$(EXTRAS_$*)' --group $*
	@touch $@
