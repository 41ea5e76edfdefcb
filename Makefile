# make demo   the main job on real images, from a fresh clone, in minutes
# make test   lint, types, import contract and all tests
# make check  lint, types and import contract only
# make bench  speed against plain references and the machine's own limit

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test check bench clean fashion-mnist

demo: $(INSTALLED) fashion-mnist
	$(BIN)/scorescope demo --out runs/demo

test: $(INSTALLED) check
	$(BIN)/pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

# Debian ships the data set; where that cannot be had the demo says so and uses scikit-image's photographs.
fashion-mnist:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s dataset-fashion-mnist >/dev/null 2>&1; then \
		echo "installing Debian's dataset-fashion-mnist"; \
		{ apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist; } >/dev/null 2>&1 || \
			echo "dataset-fashion-mnist could not be installed"; \
	fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
