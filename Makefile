# Two commands do everything: `make demo` and `make test`. Each first installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FSDD ?= ../shared/real_speech/fsdd
WHISPER ?= ../shared/encoders/whisper-tiny.en-encoder

BENCHMARKS := startup encode stream memory step probes ddp protocol

.DEFAULT_GOAL := help
.PHONY: help demo real-speech test test-slow test-faults test-slurm bench lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## the whole protocol on synthetic speech, to runs/demo/report.html (about 5 minutes on 2 cores)
	$(BIN)/python -m disentangle_lightning pipeline --config experiments/demo.yaml

real-speech: $(READY) ## the same on real recordings: FSDD=folder WHISPER=folder
	$(BIN)/python -m disentangle_lightning pipeline --config experiments/real_speech.yaml \
	    --corpus.init_args.folder $(FSDD) --encode.encoder $(WHISPER)

test: $(READY) ## the tests
	$(BIN)/python -m pytest -q -m "not slow and not faults and not slurm"

test-slow: $(READY) ## the tests that take over half a minute each
	$(BIN)/python -m pytest -q -m slow

test-faults: $(READY) ## kill encoding and training at 50 random instants each
	$(BIN)/python -m pytest -q -m faults

test-slurm: $(READY) ## the job scripts on a SLURM of one node: as root, with slurmctld, slurmd, slurm-client and munge
	$(BIN)/python -m pytest -q -m slurm tests/slurm

bench: $(READY) ## every benchmark: ratios here and in bench.json; leave the machine alone meanwhile
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	for name in $(BENCHMARKS); do $(BIN)/python experiments/benchmarks/$$name.py || exit 1; done

lint: $(READY) ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment; runs stay
	rm -rf $(VENV)

# The interpreter is checked first, so that an old one is named before anything is installed.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) is older than Python 3.11; name another with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
