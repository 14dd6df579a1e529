# Two commands on a bare machine: make demo, make test. Python 3.11 or newer, pip and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup broker demo test check fix lock clean
help:            ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: .venv/.installed  ## virtual environment with the locked versions

# The stamp is newer than the lock only when the installation ended well.
.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# MQTT is tested against mosquitto; where that is missing, against a broker in Python, which pins
# another version of websockets than ours and so gets an environment of its own.
ifeq ($(shell PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto),)
BROKER := .venv-broker/.installed
endif

broker: $(BROKER)  ## something to test MQTT against, if there is nothing

.venv-broker/.installed:
	$(PYTHON) -m venv .venv-broker
	@.venv-broker/bin/pip install --quiet --disable-pip-version-check amqtt==0.12.1 && touch $@ || \
	  echo "no amqtt to be had: tests that need a broker will be skipped"

demo: setup      ## a spoken question through the whole pipeline, live in the terminal
	@$(BIN)/textpro demo

test: setup broker  ## all tests: hermetic, then the real models
	$(BIN)/pytest -m "not weights and not gpu"
	$(BIN)/textpro models pull --defaults
	$(BIN)/pytest -m weights

check: setup broker  ## format, lint, types, import contract, hermetic tests
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
	rm -rf .venv .venv-broker build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
