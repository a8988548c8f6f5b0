# Northstar's targets; `make help` lists them. NORTHSTAR_HOME moves the state elsewhere.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
# what installs is locked by itself, and what production runs on apart from what tests, linters and benchmarks need on top
LOCKS := requirements-uv.txt requirements.txt requirements-dev.txt
STAMP := $(VENV)/.setup-$(shell cat $(LOCKS) pyproject.toml setup.py | sha256sum | cut -c1-16)
SPARK := .venv-spark
SPARK_STAMP := $(SPARK)/.setup-$(shell sha256sum < requirements-spark.txt | cut -c1-16)
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv
# what is pinned stays pinned (UPGRADE=1, or --upgrade-package in OPTIONS, looks for newer versions); the pins hold for every Python of pyproject.toml
COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --quiet --no-annotate --no-header $(if $(UPGRADE),--upgrade) $(OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help setup run stop test test-fast test-containers test-machines test-spark setup-spark lint docs bench lock audit wheel

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

setup: $(STAMP)  ## the environment, nothing started

$(STAMP): $(LOCKS) pyproject.toml setup.py
	@echo "setting up $(VENV) (once) ..."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m venv --without-pip $(VENV) \
		|| { echo "northstar: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "northstar: Python 3.11, 3.12 or 3.13 is needed; call make PYTHON=python3.11" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 \
		|| { echo "northstar: the virtual environment has no pip; on Debian: apt-get install python3-venv, then rm -r $(VENV)" >&2; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-uv.txt
	@$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.txt -r requirements-dev.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.setup-* && touch $@

run: setup  ## start Postgres, Airflow and the pages, run the nightly job if one is owed (FRESH=1: in any case), show the headlines
	@$(VENV)/bin/python -m northstar.orchestration.up $(if $(filter-out 0,$(FRESH)),--fresh)

stop:  ## stop what `make run` started
	@if [ -x $(VENV)/bin/northstar ]; then $(VENV)/bin/northstar stop; else echo "nothing was set up"; fi

# one more than there are cores: a test often waits, for a browser, a scheduler or a process that it killed
TEST_PROCESSES ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

test: setup  ## all the tests, on processes with a warehouse each, one more than there are cores
	$(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-fast: setup  ## those that need no warehouse, in less than 30 s
	$(VENV)/bin/python -m pytest --fast -n 2 -p no:dash

test-containers: setup  ## docker-compose.yml started for real (as root, with podman, buildah, runc, mmdebstrap and iptables of Debian)
	$(VENV)/bin/python -m pytest tests/containers

test-machines: setup  ## Airflow's tasks on two workers, with a home and a user of their own each (with redis-server of Debian; users as root)
	$(VENV)/bin/python -m pytest tests/machines

setup-spark: setup $(SPARK_STAMP)  ## the environment of Spark, beside the other (with openjdk-17-jre-headless of Debian)

$(SPARK_STAMP): requirements-spark.txt
	@java -version 2>&1 | grep -q 'version "\(17\|21\)\.' \
		|| { echo "northstar: Spark needs Java 17 or 21; on Debian: apt-get install openjdk-17-jre-headless" >&2; exit 1; }
	@echo "setting up $(SPARK) (once) ..."
	@test -x $(SPARK)/bin/python || $(UV) venv --quiet --python $(VENV)/bin/python $(SPARK)
	@VIRTUAL_ENV=$(CURDIR)/$(SPARK) $(VENV)/bin/uv pip sync --quiet --require-hashes requirements-spark.txt
	@rm -f $(SPARK)/.setup-* && touch $@

test-spark: setup-spark  ## the models with the tag wide, built by Postgres and by Spark from the same rows
	$(VENV)/bin/python -m pytest tests/spark

lint: setup  ## ruff, mypy, import-linter and sqlfluff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(VENV)/bin/sqlfluff lint --processes 2 --disable-progress-bar dbt_project/models

docs: setup  ## docs/ as a site with a page for each metric and dbt's docs, in site/
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(VENV)/bin/mkdocs build --quiet --strict

bench: setup  ## benchmarks beside their peers; writes bench.json
	$(VENV)/bin/python -m benchmarks

lock: setup  ## lock what pyproject.toml names, with hashes: for production, for development, and uv itself
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) --group dev --constraints requirements.txt -o requirements-dev.txt
	$(COMPILE) --group spark --constraints requirements.txt -o requirements-spark.txt
	$(COMPILE) --group uv -o requirements-uv.txt

wheel: setup  ## a wheel that carries the project, and what it is made from, in dist/
	$(UV) build --quiet --no-build-isolation

audit: setup  ## look the locked packages up among known vulnerabilities
	@.ci/audit
