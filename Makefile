# Deep Learning, Measured. `make help` lists what there is.

PYTHON ?= python3
VENV ?= .venv
REQUIREMENTS ?= requirements.txt
PORT ?= 8000
WORKERS ?= 2
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help book serve test scripts results notebooks publish cold clean
.DELETE_ON_ERROR:

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

book: $(VENV)/.book ## Execute what changed, build the book strictly, say which page to open
	$(BIN)/python tools/build.py

serve: book ## Build the book and serve it on http://localhost:8000 (PORT=... for another)
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

test: $(VENV)/.test $(VENV)-jax/.done ## Pass the tests, the book's own build among them (WORKERS=... side by side)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

cold: $(VENV)/.test ## Run every chapter's notebook in a fresh environment that holds only what its first cell installs
	COLD=all $(BIN)/python -m pytest tests/test_cold_notebooks.py

scripts: $(VENV)/.test ## Format the pages' code and write code/<chapter>.py from book/<chapter>.md
	$(BIN)/python tools/format_pages.py
	$(BIN)/python tools/scripts.py

results: book ## Write book/results/<profile>/<chapter>.json from the executed book
	$(BIN)/python tools/results.py

notebooks: book ## Write one notebook a chapter, for Colab, to _build/notebooks
	$(BIN)/python tools/notebooks.py

publish: $(VENV)/.book ## Build HTML and notebooks anew into the folder TO=..., for any static host
	$(if $(TO),,$(error Say where to: make publish TO=folder))
	rm -rf _build/html _build/.doctrees _build/notebooks
	$(BIN)/python tools/build.py
	$(BIN)/python tools/notebooks.py
	$(BIN)/python tools/publish.py $(TO)

clean: ## Remove what building made, the execution cache included (the environments stay)
	rm -rf _build

$(VENV)/.book: requirements-base.txt $(REQUIREMENTS) constraints.txt pyproject.toml
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.book requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)-jax/.done: requirements-jax.txt
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)-jax
	$(VENV)-jax/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-jax.txt
	touch $@
