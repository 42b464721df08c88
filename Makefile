# Needs Python 3.11 or newer and make; everything else is installed into .venv-<line of SQLAlchemy>.
PYTHON ?= python3
SQLALCHEMY ?= 2.1
VENV := .venv-$(SQLALCHEMY)
BIN := $(VENV)/bin

.PHONY: demo test check docs bench bench-full conformance clean

demo: $(VENV)/.installed ## run the main job on an SQLite file
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.installed-test ## run the tests
	$(BIN)/python -m pytest $(PYTEST)

check: $(VENV)/.installed-check $(VENV)-wheel/.made docs ## lint, types, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python tests/typing examples
	$(VENV)-wheel/bin/python -m pip install --quiet --force-reinstall --no-deps .
	cd $(VENV)-wheel && VIRTUAL_ENV=$$PWD PATH=$$PWD/bin:$$PATH ../$(BIN)/pyright --verifytypes sa_keyvault --ignoreexternal

docs: $(VENV)/.installed-check ## build the documentation, warnings are errors
	$(BIN)/sphinx-build -W --keep-going -n -q docs docs/_build

bench: $(VENV)/.installed-bench ## measure side by side with others, and write tables and plots into the documentation
	$(BIN)/python -m benchmarks $(BENCH)

bench-full: ## measure everything, on both lines of SQLAlchemy: up to a million rows and 100,000 keys
	$(MAKE) bench SQLALCHEMY=2.0 BENCH=--full
	$(MAKE) bench SQLALCHEMY=2.1 BENCH=--full

conformance: $(VENV)/.installed-conformance ## run SQLAlchemy's own tests on encrypted columns
	PYTHONPATH=tests:. $(BIN)/python -m conformance $(CONFORMANCE)

clean: ## remove what the other targets made
	rm -rf .venv-* .conformance docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis

# the wheel as a user installs it: its types are checked there, py.typed included
$(VENV)-wheel/.made: pyproject.toml
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet '.[alembic,pkcs11]'
	touch $@

$(VENV)/.pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	touch $@

$(VENV)/.installed: $(VENV)/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable . "sqlalchemy~=$(SQLALCHEMY).0"
	touch $@

# one pip call for all: a group installed by itself could bring another line of SQLAlchemy
$(VENV)/.installed-%: $(VENV)/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable . "sqlalchemy~=$(SQLALCHEMY).0" --group $*
	touch $@
