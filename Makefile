# Each target makes the virtual environment it needs. PYTHON is any Python from 3.10 on.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
PIP = -m pip --disable-pip-version-check install --quiet
PINNED = --constraint $(CONSTRAINTS)

VENV ?= .venv

.PHONY: help test test-slow test-browser docs lint types demo clean

help:
	@echo "make test       the test suite, in .venv"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-browser  the report's pages in Chromium, with Playwright's own or one on the PATH"
	@echo "make docs       the documentation, strictly, into build/site"
	@echo "make lint       ruff and strict mypy; make types: mypy alone, of the environment in VENV"
	@echo "make demo       compile a text recogniser for this CPU, in .venv-demo; leaves demo-output/report.html"
	@echo "make clean      delete what the targets above made"

.venv/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) --upgrade pip
	.venv/bin/python $(PIP) $(PINNED) --editable '.[dev]'
	touch $@

.venv-demo/ready: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) --upgrade pip
	.venv-demo/bin/python $(PIP) $(PINNED) --editable '.[images]'
	.venv-demo/bin/python $(PIP) $(PINNED) --no-deps --ignore-requires-python rapidocr-onnxruntime matplotlib
	touch $@

# Two processes, each with whole files: a file's fixtures are made once, and what is timed shares a core with nothing.
test: .venv/ready
	.venv/bin/python -m pytest -n 2 --dist loadfile

test-slow: .venv/ready
	.venv/bin/python -m pytest -m slow

test-browser: .venv/ready
	.venv/bin/python $(PIP) $(PINNED) --editable '.[browser]'
	.venv/bin/python -m pytest -m slow tests/report/test_browser.py

# What is said of its successor at every build is no concern of a build.
docs: export NO_MKDOCS_2_WARNING = 1
docs: .venv/ready
	.venv/bin/python $(PIP) $(PINNED) --editable '.[docs]'
	.venv/bin/mkdocs build --quiet

lint: .venv/ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	$(MAKE) --no-print-directory types

# mypy does not follow setuptools' package-dir map, so it is shown the package as it lies once installed.
types:
	rm -rf build/types
	mkdir -p build/types/edgeprune
	ln -s $(CURDIR)/edgeprune/* $(CURDIR)/passes $(CURDIR)/hwprofiles build/types/edgeprune
	cd build/types && $(abspath $(VENV))/bin/mypy --config-file ../../pyproject.toml

demo: .venv-demo/ready
	.venv-demo/bin/python examples/ocr/demo.py demo-output

clean:
	rm -rf .venv .venv-demo demo-output build
