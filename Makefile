# Two commands do all the set-up: `make demo` and `make test`. `make setup` alone builds .venv with .venv/bin/shardmill.
# VENV keeps the environment elsewhere (CI does); PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# FAISS for the machine: the GPU build where an NVIDIA device answers. EXTRAS=cpu|gpu overrides.
EXTRAS ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
DEMO ?= demo-output

.PHONY: demo test test-ui check bench scale scale-ci device readers chaos fuzz setup clean

demo: setup
	$(BIN)/shardmill run sample --output $(DEMO)
	@echo
	@echo "Try next:"
	@echo "  $(BIN)/shardmill status $(DEMO)"
	@echo "  $(BIN)/shardmill verify $(DEMO)"
	@echo "  $(BIN)/shardmill simulate $(DEMO) --set filters.clip_similarity.min=0.1"
	@echo "  open $(DEMO)/report.html"

test: setup
	$(MAKE) --jobs=2 --output-sync check scale-ci
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# The pages in a real browser (Debian's chromium), and axe-core on them, of which this wheel has a copy.
test-ui: setup
	$(BIN)/pip install --quiet --no-deps axe-playwright-python
	$(BIN)/python -m pytest tests/report/browser.py tests/serve/browser.py

bench: setup
	$(BIN)/python -m tests.benchmarks

# Every pass after annotate on synthetic columns: SIZE=1m|10m|36m|100k|ci (default: the first four), ONLY=PASS, e.g. duplicates;
# FOLDER keeps what it makes (a temporary folder needs up to 30 GB).
scale: setup
	$(BIN)/python -m tests.scale $(addprefix --size ,$(SIZE)) $(addprefix --only ,$(ONLY)) $(addprefix --folder ,$(FOLDER)) \
		--json build/scale.json

scale-ci: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scale --size ci

# On a machine with a GPU: is it right, then how fast is it; 8 minutes.
device: setup
	$(BIN)/python -m tests.device --json device.json

# Readers that nobody here wrote, over one export of everything that the tests have; some are installed for it, and gone afterwards.
readers: setup
	$(BIN)/python -m tests.readers

chaos: setup
	$(BIN)/python -m tests.chaos --kills 50 --seed 0

fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds 300 --seed 0

setup: $(VENV)/.installed-$(EXTRAS)

$(VENV)/.installed-$(EXTRAS): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "shardmill needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS),dev]'
	@touch $@

clean:
	rm -rf $(DEMO) build *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache
