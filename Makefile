# Each target is a first command: it sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml constraints.txt
COVERED := --cov --cov-append --cov-report=

.PHONY: demo test test-slow test-fuzz test-zoo coverage test-peers test-browser lint bench docs serve-docs clean

demo: .venv/.made-run
	$(BIN)/heatproof demo --out demo --overwrite

test: .venv/.made-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not peers and not browser and not gpu and not fuzz and not zoo" -n 2

test-slow: .venv/.made-dev
	$(BIN)/python -m pytest -m "slow and not peers and not browser and not gpu and not fuzz and not zoo"

# broken and hostile inputs, of each kind as many as HEATPROOF_FUZZ says, and kills at random moments
test-fuzz: .venv/.made-dev
	OMP_NUM_THREADS=1 HEATPROOF_FUZZ=$${HEATPROOF_FUZZ:-400} $(BIN)/python -m pytest -m fuzz tests/fuzz -n 2

# test and test-slow in one go, with the lines and branches of src that no test reaches
coverage: .venv/.made-dev
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not peers and not browser and not gpu and not fuzz and not zoo" -n 2 $(COVERED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not peers and not browser and not gpu and not fuzz and not zoo" -n 2 $(COVERED)
	$(BIN)/coverage report

test-peers: .venv/.made-peers
	$(BIN)/python -m pytest -m "peers and not gpu and not zoo"

# forty minutes on two cores; what is found is kept in tests/zoo/found.jsonl, not made again, and written into the docs;
# without checks of shapes, which would count as LRP's work
test-zoo: .venv/.made-dev
	OMP_NUM_THREADS=1 JAXTYPING_DISABLE=1 $(BIN)/python -m pytest -m zoo tests/zoo/test_zoo.py -n 2; \
	found=$$?; PYTHONPATH=tests $(BIN)/python -m zoo.table && test $$found = 0
	$(BIN)/python -m pytest -m "zoo or not zoo" tests/zoo/test_found.py

# needs Chromium: apt-get install chromium, or HEATPROOF_CHROMIUM=/path/to/it
test-browser: .venv/.made-browser
	$(BIN)/python -m pytest -m browser

lint: .venv/.made-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --warnings

bench: .venv/.made-peers
	$(BIN)/python -m benchmarks

docs: .venv/.made-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

serve-docs: .venv/.made-docs
	$(BIN)/mkdocs serve

clean:
	rm -rf .venv .coverage demo site .pytest_cache .ruff_cache .hypothesis

# torch first and alone: an open range would pull a CUDA build of several gigabytes
.venv/.made-run: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable .
	touch $@

.venv/.made-dev: .venv/.made-run
	$(PIP) --editable ".[test,lint]"
	touch $@

.venv/.made-peers: .venv/.made-dev
	$(PIP) --editable ".[test,peers]"
	$(PIP) --no-deps torchattacks lxt
	touch $@

.venv/.made-browser: .venv/.made-dev
	$(PIP) --editable ".[test,browser]"
	touch $@

.venv/.made-docs: .venv/.made-run
	$(PIP) --editable ".[docs]"
	touch $@
