# make demo   the main job on real images, from a fresh clone, in minutes
# make test   lint, types, import contract, the site and all kinds of tests
# make test-fast        tests of a second or less each
# make test-exhaustive  every case of the large tables, which `make test` samples
# make test-all         both
# make check  lint, types and import contract only
# make docs   the site, into site/, to be opened without a server or a network
# make bench  speed against plain references and the machine's own limit

PYTHON ?= python3
# PyPI's PyTorch for Linux brings gigabytes for NVIDIA's processors along; `make demo CPU_TORCH=` takes that one.
CPU_TORCH ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
INSTALLED_DEV := $(VENV)/installed-dev

# One thread a test and a test a core: small products gain nothing from threads, and waiting threads take processor time.
PYTEST := OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 $(BIN)/pytest --numprocesses auto --dist loadfile

.PHONY: demo test test-fast test-exhaustive test-all check docs bench clean fashion-mnist

demo: $(INSTALLED) fashion-mnist
	$(BIN)/scorescope demo --out runs/demo

test: $(INSTALLED_DEV) check docs
	$(PYTEST)

test-fast: $(INSTALLED_DEV)
	$(PYTEST) -m "not slow and not exhaustive"

test-exhaustive: $(INSTALLED_DEV)
	$(PYTEST) --dist load -m exhaustive

test-all: test test-exhaustive

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED_DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(INSTALLED_DEV)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,.)
	touch $(INSTALLED)

$(INSTALLED_DEV): pyproject.toml constraints.txt
	$(call install,.[dev])
	touch $(INSTALLED) $(INSTALLED_DEV)

# With uv where it is there, and with pip where it is not, or where uv finds no PyTorch: pip may know wheels that uv does not.
define install
	@if command -v uv >/dev/null && uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --python $(BIN)/python $(if $(CPU_TORCH),--torch-backend cpu) --constraint constraints.txt --editable '$(1)'; \
	then :; else \
		echo "installing with pip"; \
		index=""; \
		if [ "$$(uname)" = Linux ] && $(PYTHON) -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=5)' \
			"$(CPU_TORCH)" 2>/dev/null; then index="--extra-index-url $(CPU_TORCH)"; fi; \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/pip install $$index --constraint constraints.txt --editable '$(1)'; \
	fi
endef

# Debian ships the data set; where that cannot be had the demo says so and uses scikit-image's photographs.
fashion-mnist:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s dataset-fashion-mnist >/dev/null 2>&1; then \
		echo "installing Debian's dataset-fashion-mnist"; \
		{ apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist; } >/dev/null 2>&1 || \
			echo "dataset-fashion-mnist could not be installed"; \
	fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis site
