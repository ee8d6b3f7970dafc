# Every target makes .venv when it is missing and installs what it needs.
PYTHON ?= python3
# Those of `make test-versions`.
OLDEST ?= python3.11
NEWEST ?= python3.13
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-faults test-versions lint bench figures

demo: $(VENV)/installed
	$(BIN)/python scripts/demo.py

test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not faults"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# Runs that are killed, stopped and damaged, and discs that are full: as root.
test-faults: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m faults

# The library with the oldest and the newest versions that setup.py allows.
test-versions:
	.ci/versions $(OLDEST) $(NEWEST)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/installed
	$(BIN)/python scripts/benchmark.py --what=step,prune,memory

# Draws anew all that is recorded in results/.
figures: $(VENV)/installed
	$(BIN)/python scripts/reproduce.py --draw_only

$(VENV)/installed: setup.py pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --editable ".[demo,test]"
	touch $@
