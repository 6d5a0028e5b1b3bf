# Two commands matter: `make demo` shows it, `make test` proves it. Both do all the set-up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

.PHONY: setup demo sim mutations rating-mutations chaos test test-asterisk test-freeswitch lint format types lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

# A Python without ensurepip (Debian's, without python3-venv) still makes a venv; pip then comes from the pip on PATH.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("callctl needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || { echo "making a virtual environment in $(VENV) ..." >&2; \
	  $(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m virtualenv -q $(VENV) 2>/dev/null; } || \
	  { echo "This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }; }
	@echo "installing the locked dependencies (once) ..." >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY) ## the virtual environment with everything in it

demo: $(READY) ## a whole system with simulated traffic; ARGS="--seconds 30 --json" for a run without a screen
	@$(BIN)/callctl demo $(ARGS)

test: $(READY) lint types ## everything that needs no root
	$(BIN)/python -m pytest -m "not asterisk and not freeswitch" $(ARGS)

test-asterisk: $(READY) ## every call scenario against a real Asterisk with SIPp
	$(BIN)/python -m pytest -m asterisk tests/switches $(ARGS)

test-freeswitch: $(READY) ## the same against a real FreeSWITCH: FREESWITCH_PREFIX or PATH
	$(BIN)/python -m pytest -m freeswitch tests/switches $(ARGS)

sim: $(READY) ## calls, money and faults from 200 fresh seeds; ARGS="--seed N --trace" for one, "--minutes 30" for long
	@$(BIN)/python -m tests.simulation.run $(ARGS)

mutations: $(READY) ## deliberate bugs, each of which the simulation must catch
	@$(BIN)/python -m tests.simulation.mutations $(ARGS)

rating-mutations: $(READY) ## small mistakes in rating/, and which of them no test notices (long)
	@$(BIN)/python -m tests.mutation.rating $(ARGS)

chaos: $(READY) ## real processes killed and stopped at random moments; ARGS="--rounds N --seed N", ARGS="--real" around a real Asterisk
	@$(BIN)/python -m tests.chaos.run $(ARGS)

lint: $(READY) ## ruff and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(READY) ## mypy --strict
	$(BIN)/mypy

format: $(READY) ## put the code in shape
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: ## pin every dependency with its hashes (needs uv)
	uv pip compile pyproject.toml --group dev --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	  --custom-compile-command "make lock" -o requirements.lock

clean: ## remove what the commands above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
