# make demo   the whole study at tiny scale (about 12 minutes on 2 cores)
# make test   the tests
# make check  format, lint, types and import direction
# make pods   compiles for TPU slices with TPUs' own compiler, which it installs into .tpu (0.7 GB)
# make docs   README, docs/ and the API as pages, in site/
# make bench  how fast it is, against a plain reference and the machine's limits (20 minutes)
# Each sets up .venv first when it is missing or older than what it is made from.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STUDY_DIR ?= studies/tiny
# One more than the cores that it is meant for: tests also wait, for signals and for each other.
TEST_PROCESSES ?= 3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test check docs pods bench clean

demo: $(READY)
	$(VENV)/bin/pagap study --gin_file=gin_configs/studies/tiny.gin --gin.STUDY_DIR="'$(STUDY_DIR)'"

test: $(READY)
	$(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q tests/test_imports.py

docs: $(READY)
	test -x $(VENV)/bin/mkdocs || $(VENV)/bin/python -m pip install --quiet \
		--disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# Beside the environment, not in it: where libtpu is installed JAX looks for a TPU.
pods: $(READY)
	test -d .tpu/libtpu || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps -c constraints.txt --target .tpu libtpu
	PYTHONPATH=.tpu $(VENV)/bin/python -m pytest -q tests/aot/test_compiling.py

bench: $(READY)
	$(VENV)/bin/python -m benchmarks.run

$(READY): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): some minutes the first time"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .tpu .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
