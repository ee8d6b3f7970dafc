# Every target makes .venv when it is missing and installs what it needs.
PYTHON ?= python3
# Those of `make test-versions`.
OLDEST ?= python3.11
NEWEST ?= python3.13
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-faults test-torch test-versions coverage mutants lint \
    bench figures

demo: $(VENV)/installed
	$(BIN)/python scripts/demo.py

test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not faults"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# Runs that are killed, stopped and damaged, and discs that are full: as root.
test-faults: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m faults

# Scores, masks, losses and checkpoints of PyTorch, in an environment of its own: 0.2 GB.
test-torch:
	test -d .venv-torch || $(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet "torch>=2.13" \
	    --index-url https://download.pytorch.org/whl/cpu
	.venv-torch/bin/python -m pip install --quiet \
	    --disable-pip-version-check --editable ".[demo,test,torch]"
	.venv-torch/bin/python -m pytest -k torch \
	    tests/test_backends.py tests/experiments/test_distributed.py

# The library with the oldest and the newest versions that setup.py allows.
test-versions:
	.ci/versions $(OLDEST) $(NEWEST)

# Of the library, at least 98% of the lines; of what is below scripts, 90%.
coverage: $(VENV)/installed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q --numprocesses=2 --dist=loadfile \
	    -m "not slow and not faults"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --show-missing --fail-under=98 \
	    --include="snip_tf/*,models/*" --omit="snip_tf/experiments/*"
	$(BIN)/coverage report --skip-covered --show-missing --fail-under=90 \
	    --include="snip_tf/experiments/*,scripts/*"

# Hours on one core; goes on where it was stopped.
mutants: $(VENV)/installed
	$(BIN)/python -m pip install --quiet "mutmut>=3.8,<4"
	$(BIN)/python .ci/mutants.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/installed
	$(BIN)/python scripts/benchmark.py --what=step,prune,memory
	$(BIN)/python scripts/benchmark.py --what=scale \
	    --models=lenet_300_100,lenet_5_caffe,vgg_d

# Draws anew all that is recorded in results/.
figures: $(VENV)/installed
	$(BIN)/python scripts/reproduce.py --draw_only

$(VENV)/installed: setup.py pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --editable ".[demo,test]"
	touch $@
