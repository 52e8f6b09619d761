PYTHON ?= python3

.PHONY: check test cluster bench generate
check:
	ruff check . && ruff format --check . && mypy && lint-imports
test:
	$(PYTHON) -m pytest
cluster:
	ostraka up
bench: # a fresh local cluster, about four minutes
	$(PYTHON) -m benchmarks.load
generate:
	$(PYTHON) -m tools.generate_stubs && $(PYTHON) -m tools.generate_model && $(PYTHON) -m tools.generate_docs
