# `make demo` and `make test` set everything up in .venv on a fresh machine with Python 3.10+, a C++ compiler and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

demo: $(VENV)/run.stamp
	$(BIN)/personaplug demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest

lint: $(VENV)/test.stamp
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The bare C loops to compare with: cmake --preset dev && cmake --build --preset dev
bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/run_all.py results && $(BIN)/python benchmarks/report.py results

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

SOURCES := pyproject.toml CMakeLists.txt $(shell find cpp python export -type f -not -name '*.pyc' -not -name '*.so')

$(VENV)/run.stamp: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install ".[cpu]"
	touch $@

$(VENV)/test.stamp: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install ".[cpu,eval,export,ray,test,lint]"
	touch $@

clean:
	rm -rf $(VENV) build dist
