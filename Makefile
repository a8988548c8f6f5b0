# Northstar's targets; `make help` lists them. NORTHSTAR_HOME moves the state elsewhere.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.setup-$(shell cat requirements.txt pyproject.toml | sha256sum | cut -c1-16)

.DEFAULT_GOAL := help
.PHONY: help setup run stop test test-containers test-machines lint bench lock audit

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

setup: $(STAMP)  ## the environment, nothing started

$(STAMP): requirements.txt pyproject.toml
	@echo "setting up $(VENV) (once) ..."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m venv --without-pip $(VENV) \
		|| { echo "northstar: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "northstar: Python 3.11 or newer is needed; call make PYTHON=python3.11" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 \
		|| { echo "northstar: the virtual environment has no pip; on Debian: apt-get install python3-venv, then rm -r $(VENV)" >&2; exit 1; }
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.txt
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --no-deps -e .
	@rm -f $(VENV)/.setup-* && touch $@

run: setup  ## start Postgres, Airflow and the pages, run the nightly job if one is owed (FRESH=1: in any case), show the headlines
	@$(VENV)/bin/python -m northstar.orchestration.up $(if $(filter-out 0,$(FRESH)),--fresh)

stop:  ## stop what `make run` started
	@if [ -x $(VENV)/bin/northstar ]; then $(VENV)/bin/northstar stop; else echo "nothing was set up"; fi

test: setup  ## all the tests, on two processes with a warehouse each
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-containers: setup  ## docker-compose.yml started for real (as root, with podman, buildah, runc, mmdebstrap and iptables of Debian)
	$(VENV)/bin/python -m pytest tests/containers

test-machines: setup  ## Airflow's tasks on two workers, with a home and a user of their own each (with redis-server of Debian; users as root)
	$(VENV)/bin/python -m pytest tests/machines

lint: setup  ## ruff and sqlfluff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/sqlfluff lint --processes 2 --disable-progress-bar dbt_project/models

bench: setup  ## benchmarks beside their peers; writes bench.json
	$(VENV)/bin/python -m benchmarks

lock: setup  ## lock requirements.in with hashes
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip compile requirements.in -o requirements.txt --generate-hashes -q --no-annotate --no-header --python-version 3.11

audit: setup  ## look the locked packages up among known vulnerabilities
	@.ci/audit
