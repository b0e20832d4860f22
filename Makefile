# Every target sets itself up: a virtual environment from python3 and pip alone.
PYTHON ?= python3
# On an accelerator: make EXTRAS=dev,cuda (or cuda12, tpu).
EXTRAS ?= dev
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: quickstart test test-slow lint bench bench-accelerator clean

quickstart: $(VENV)/ready
	$(RUN) experiments/quickstart.py

# Tests spend their time compiling, on one core each; a module's stay together. Without LLVM's
# optimisation and XLA's fusion emitters that takes less than half of the time, and what is compiled
# is slower: the slow tests run as users do.
PYTEST := $(RUN) -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --durations 20

test: $(VENV)/ready
	XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false" $(PYTEST)

test-slow: $(VENV)/ready
	$(PYTEST) -m slow

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

bench: $(VENV)/ready
	$(RUN) experiments/bench/ppo_throughput.py

bench-accelerator: $(VENV)/ready
	$(RUN) experiments/bench/accelerator.py

clean:
	rm -rf $(VENV)

# constraints.txt pins versions known to work together; pyproject.toml has the ranges.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@
