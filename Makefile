# make demo                the partition on simulated devices, with a live table; Ctrl-C ends it
# make demo DURATION=10    the same, ended by itself after ten seconds
# make test                everything that CI runs: linters, types, import directions, tests
# make help                the rest
#
# Needs make and Python 3.11 or newer with venv; everything else comes into .venv, nothing outside the checkout is
# touched but Debian packages for the tests, and those only as root (PEERS=no leaves them out).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
DURATION ?=
NAME ?=
JOBS ?= 2
PEERS ?= yes
PYTEST_ARGS ?=

# The first interpreter that runs and is new enough; shims that only exist by name do not count.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test lint bench campaign peers constraints clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@printf '%s\n' \
	  'make lint                ruff, mypy, import directions, duplicated logic' \
	  'make bench               every benchmark, or one: make bench NAME=image' \
	  'make campaign            the long form of the fault campaigns (minutes)' \
	  'make peers               bring the programs that the tests talk to' \
	  'make constraints         write constraints.txt from the newest versions in range' \
	  'make clean               remove what make made, .venv too'

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed and none of python3.11, python3.12, python3.13, python3 is; install it or say make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks venv or pip; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "making $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# The build backend comes from the constraints too: without isolation one set of versions builds and runs everything.
$(VENV)/.runtime: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	@echo "installing what the partition needs into $(VENV)"
	@$(PIP) install -c constraints.txt setuptools wheel
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[all]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[all,test]'
	@touch $@

demo: $(VENV)/.runtime
	@exec $(BIN)/cpc demo $(if $(DURATION),--duration $(DURATION))

peers:
ifeq ($(PEERS),yes)
	@tools/install-peers
endif

lint: $(VENV)/.test
	@tools/lint $(BIN)

# The tests run also where lint failed, so that one run tells everything; the status is that of both.
test: $(VENV)/.test peers
	@tools/lint $(BIN); lint=$$?; \
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q --durations 10 $(PYTEST_ARGS) || exit $$?; \
	[ $$lint = 0 ] || echo "the tests passed, but lint found something: see above the tests"; exit $$lint

campaign: $(VENV)/.test peers
	$(BIN)/python -m pytest -q --campaign -m campaign --timeout 3600 $(PYTEST_ARGS)

bench: $(VENV)/.test peers
	@status=0; for name in $(or $(NAME),$$($(BIN)/cpc bench)); do \
	  echo "== $$name"; $(BIN)/cpc bench "$$name" || status=1; done; exit $$status

# A fresh environment without constraints shows what the ranges allow today; look at the difference, then run the tests.
REQUIREMENTS := import configparser as c; f = c.ConfigParser(); f.read("setup.cfg"); e = f["options.extras_require"]; \
	print(f["options"]["install_requires"], e["all"], e["fast"], e["test"])
constraints:
	@rm -rf $(VENV)-constraints && "$(PYTHON)" -m venv $(VENV)-constraints
	@$(VENV)-constraints/bin/pip --disable-pip-version-check --quiet install --upgrade setuptools wheel -r <("$(PYTHON)" -c '$(REQUIREMENTS)')
	@{ sed -n '/^#/p' constraints.txt; $(VENV)-constraints/bin/pip --disable-pip-version-check freeze --all | grep -v '^pip='; } > constraints.new
	@mv constraints.new constraints.txt && rm -rf $(VENV)-constraints

clean:
	rm -rf $(VENV) $(VENV)-constraints .peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache tests/peers_src/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
