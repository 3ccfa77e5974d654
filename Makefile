# Everything here needs only make and a Python of at least 3.11; the rest is installed
# into .venv by pip, as pip is configured on the machine. `make` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Arguments for the target, as in: make demo ARGS="--revert --crash"
ARGS ?=
# How many seeds the simulation runs, and for how long the soak goes on.
SEEDS ?= 10000
MINUTES ?= 30
# Which release of the broker, as Maven names it; its own when empty.
KAFKA_VERSION ?=

# The Weaviate that `make weaviate` builds, and where the tests look for it.
WEAVIATE_VERSION := 1.38.1
WEAVIATE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vector-replicator/weaviate-$(WEAVIATE_VERSION)/weaviate-server

# What `make coverage` runs: the tiers that need no broker and no process of their own.
FAST := $(addprefix tests/,cli codecs connectors http kinds local_store migration model settings state stream testing traffic) \
	$(wildcard tests/feeds/test_*.py)

# Strict: a page without a place in the list, or a link that leads nowhere, fails. The variable
# silences what the theme says of its own future at every build.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file deploy/site/mkdocs.yml

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka example test test-kafka test-cluster test-weaviate weaviate coverage lint format docs site bench matrix simulate mutants failpoints soak dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## move a live collection between two local stores, and prove them equal
	@$(BIN)/replicator demo $(ARGS)

demo-kafka: $(READY) ## the same with a real Kafka broker in the middle
	@$(BIN)/replicator demo --kafka $(ARGS)

example: $(READY) ## from Chroma to Qdrant in one command: filled, moved, compared, and a runbook
	@$(BIN)/python examples/chroma-to-qdrant/run.py $(ARGS)

test: $(READY) ## every test, the ones with a real Kafka broker included
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not cluster and not weaviate"

test-kafka: $(READY) ## KAFKA_VERSION=4.0.0: what needs a real broker, on that release of it
	KAFKA_VERSION=$(KAFKA_VERSION) $(BIN)/python -m pytest tests/feeds/kafka tests/endtoend/test_blocked.py

test-cluster: $(READY) ## the tests that need three Kafka brokers: elections, replicas, TLS
	$(BIN)/python -m pytest -m cluster tests/feeds/kafka_cluster

$(WEAVIATE):
	GOBIN=$(@D) go install github.com/weaviate/weaviate/cmd/weaviate-server@v$(WEAVIATE_VERSION)

weaviate: $(WEAVIATE) ## build the Weaviate server that tests use, once: needs Go, takes a quarter of an hour

test-weaviate: $(READY) ## what needs a Weaviate: the one built, or that of WEAVIATE_URL
	$(BIN)/python -m pytest -n 2 --dist worksteal $(wildcard tests/connectors/test_weaviate_*.py) tests/endtoend/test_weaviate.py

coverage: $(READY) ## which lines the fast tiers run; fails below the floor
	$(BIN)/coverage run -m pytest -n 0 $(FAST)
	$(BIN)/coverage report

lint: $(READY) ## style, types, layers, the Dockerfile, the site, and the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.13
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint Dockerfile
	$(MKDOCS)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

format: $(READY) ## put every file into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## write what the code knows into docs/ and config/reference.toml
	$(BIN)/python -m tests.docs.tables

site: $(READY) ## docs/ as a site, in dist/site
	$(MKDOCS)

matrix: $(READY) ## every kind of store to every other, under writes and kills; goes on where it ended
	$(BIN)/python -m tests.matrix $(ARGS)

simulate: $(READY) ## SEEDS=10000: random schedules with faults, on virtual time
	SEEDS=$(SEEDS) $(BIN)/python -m pytest -n 2 --dist worksteal tests/simulation

mutants: $(READY) ## faults made by hand, one at a time: the tests notice each
	$(BIN)/python -m tests.mutants --jobs 2 $(ARGS)

failpoints: $(READY) ## real processes that die, hang or fail at every place by name
	FAILPOINTS=all $(BIN)/python -m pytest -n 2 --dist worksteal tests/failpoints

bench: $(READY) ## throughput and latency of the data path on this machine
	$(BIN)/python -m tests.benchmarks $(ARGS)

soak: $(READY) ## MINUTES=30: the demonstration over and over, with crashes and reverts
	$(BIN)/replicator demo --crash --revert --minutes $(MINUTES)

dist: $(READY) ## the distribution in dist/: built, checked, installed with all extras, and listed with its parts
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,release]'
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$$(ls dist/*.whl)[all]"
	dist/venv/bin/replicator demo --points 200 --seed 1
	$(BIN)/cyclonedx-py environment dist/venv --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json
	rm -rf dist/venv

clean: ## remove .venv, caches and build products; var/ may hold a migration and stays
	rm -rf $(VENV) dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
