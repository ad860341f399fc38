# Two commands: `make demo` shows the whole stack answering, `make test` runs every check CI runs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODELS := .cache/models
SMOLLM := $(MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: demo test lint types unit model audit advisories bench chaos fuzz image-check chart-check clean

demo: $(VENV)/.run
	$(BIN)/pendra demo --home .demo --models-dir $(MODELS)

test: $(VENV)/.dev lint types model
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not integration and not acceptance"

model: $(SMOLLM)

$(SMOLLM): | $(VENV)/.run
	PENDRA_HOME=.cache/home PENDRA_MODELS_DIR=$(MODELS) $(BIN)/pendra models install smollm2:135m

# The long storm: `make chaos SEED=7 MINUTES=30` repeats one; without SEED another one every time.
MINUTES ?= 10
chaos: $(VENV)/.dev
	CHAOS_EXAMPLES=4000 $(BIN)/python -m pytest -q tests/bridge/test_session_model.py
	CHAOS_LONG=1 $(BIN)/python -m pytest -q tests/chaos/test_every_moment.py
	$(BIN)/python -m tests.chaos.storm $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES)

# Known vulnerabilities of what is installed, from the live services. Where none answers, and in `make test`, from the
# advisories stored here; `make advisories DATABASE=clone` adds those of a clone of a public database to them.
audit: $(VENV)/.dev
	$(BIN)/python -m ops.advisories check

advisories: $(VENV)/.dev
	$(BIN)/python -m ops.advisories collect "$(DATABASE)"

# Not in `make test`: the CPU image's steps in a chroot (root, debootstrap, minutes), the chart rendered (Go, sprig).
image-check:
	sh ops/docker/chroot_check.sh .cache/image

chart-check: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "kubernetes-validate>=1.30"
	PYTHON=$(BIN)/python sh tests/ops/chart/check.sh

# All of the fuzzers' cases, from another seed every time; `make fuzz FUZZ_SEED=1a2b3c4d` repeats a run.
fuzz: $(VENV)/.dev
	FUZZ=full $(if $(FUZZ_SEED),FUZZ_SEED=$(FUZZ_SEED)) $(BIN)/python -m pytest -q tests/fuzz

bench: $(VENV)/.dev model
	$(BIN)/python -m bench.stack

$(VENV)/.run: pyproject.toml ops/bootstrap.sh
	sh ops/bootstrap.sh "$(PYTHON)" "$(VENV)" "."
	touch $@

$(VENV)/.dev: pyproject.toml ops/bootstrap.sh
	sh ops/bootstrap.sh "$(PYTHON)" "$(VENV)" ".[dev]"
	touch $(VENV)/.run $@

clean:
	rm -rf $(VENV) .cache .demo build *.egg-info
