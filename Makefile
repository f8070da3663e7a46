# What people and CI call. Everything needs only git, make and python3; what else is missing is named, then installed.
.DEFAULT_GOAL := help
.PHONY: help try test test-long check fmt bench lock dist

PYTHON := .venv/bin/python
# Sandboxes need root; proxies and certificates of the caller go along.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)
UV := $(CURDIR)/.venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --no-annotate --no-header
UPGRADE :=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

try: .venv/made ## a real server in a sandbox on this machine: install, log a run from outside, look around
	@$(SUDO) $(PYTHON) tests/make_try.py

test: check ## check, then scenarios on real systemd hosts
	@$(SUDO) env PATH="$(CURDIR)/.venv/bin:$$PATH" $(PYTHON) -m pytest -m '(host or mlflow) and not long' -n 2 --dist loadfile --no-loadscope-reorder -v --no-header --durations=10

test-long: .venv/made ## the host tests that take many minutes: rotations under load, kills at every step, rehearsals, other releases
	@$(SUDO) env PATH="$(CURDIR)/.venv/bin:$$PATH" $(PYTHON) -m pytest -m long -v --no-header --durations=10

check: .venv/made ## format, lint, strict types, unit tests; needs no root
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@$(PYTHON) -m pytest -q --no-header

fmt: .venv/made ## format, and fix what the linter can fix
	@.venv/bin/ruff check --fix --quiet .
	@.venv/bin/ruff format --quiet .

bench: .venv/made ## measure this stack and the article's in one run
	@$(SUDO) $(PYTHON) -m bench.run

lock: .venv/made ## resolve the lock files again after a change of their .in; `make lock UPGRADE=--upgrade` takes newer versions
	@cd mlflow_onprem/locks && for name in mlflow-*.in; do \
		$(UV) $(UPGRADE) --only-binary :all: --no-emit-index-url --output-file "$${name%.in}.txt" "$$name" || exit 1; done
	@cd mlflow_onprem/locks && $(UV) $(UPGRADE) --output-file cli.txt cli.in

dist: .venv/made ## the wheel, in dist/
	@.venv/bin/uv build --wheel --quiet --out-dir dist && ls dist/*.whl

.venv/made: pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: python3 is older than 3.10"; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "installing by apt: python3-venv"; \
		$(SUDO) timeout --kill-after=10 600 apt-get -qq update && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends python3-venv >/dev/null; }
	@echo "making .venv: the command's packages, ruff, mypy and pytest (pip)"
	@python3 -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
