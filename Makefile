# make table    set up and run the study `digits`, into results/local; with WANDB=1, write W&B runs to the disk, for
#               `wandb sync`
# make test     set up and run the checks and the tests
# make bench    set up and measure speed and memory
# make format   format the code

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?=
INSTALL := PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: table test bench format clean
.DEFAULT_GOAL := table

table: $(VENV)/.installed
	$(if $(WANDB),WANDB_MODE=offline )$(BIN)/ablate run digits --results results/local $(if $(JOBS),--jobs $(JOBS)) $(if $(WANDB),--wandb trickstack)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --max-worker-restart 0 --durations 15

bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.benchmarks

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Trickstack needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) lacks its venv module. On Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[test]'
	@touch $@
