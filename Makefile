# Each target makes the virtual environment it needs. PYTHON is any Python from 3.10 on.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
PIP = -m pip --disable-pip-version-check install --quiet
PINNED = --constraint $(CONSTRAINTS)

.PHONY: help test test-slow lint demo clean

help:
	@echo "make test       the test suite, in .venv"
	@echo "make test-slow  the tests that take minutes"
	@echo "make lint       ruff and strict mypy"
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
	.venv-demo/bin/python $(PIP) $(PINNED) --editable '.[images,report]'
	.venv-demo/bin/python $(PIP) $(PINNED) --no-deps --ignore-requires-python rapidocr-onnxruntime matplotlib
	touch $@

test: .venv/ready
	.venv/bin/python -m pytest

test-slow: .venv/ready
	.venv/bin/python -m pytest -m slow

lint: .venv/ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

demo: .venv-demo/ready
	.venv-demo/bin/python examples/ocr/demo.py demo-output

clean:
	rm -rf .venv .venv-demo demo-output build
