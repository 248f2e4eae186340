# make demo: install and run the whole chain.  make test: all fast checks.  make slow: real Flower processes, minutes.
# make statistics: tests over many draws of noise.  make mutants: does a test notice each known way to break privacy?
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin

.PHONY: install demo test slow statistics mutants clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedscore needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: install
	$(BIN)/fedscore demo --out $(OUT) --force

# What tests do runs on one core each, and waits for no disk where memory has room for their files and may run them.
QUICKLY = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(shell sh tests/room.sh)

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(QUICKLY) $(BIN)/python -m pytest -q -n auto -m "not slow and not statistical"

slow: install
	$(BIN)/python -m pytest -q -m slow

statistics: install
	$(QUICKLY) $(BIN)/python -m pytest -q -n auto -m statistical

mutants: install
	$(QUICKLY) $(BIN)/python tests/mutants.py

clean:
	rm -rf demo out .mypy_cache .pytest_cache .ruff_cache .hypothesis
