# One command each, from a bare machine with Python 3.10-3.13, make and a package registry.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never

.PHONY: setup demo test test-integrations fuzz chaos lint format benchmark docs site clean

$(VENV)/.ready: pyproject.toml uv.lock
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(RUN)/uv sync --locked --inexact --compile-bytecode --all-extras --group dev --python $(RUN)/python
	touch $@

setup: $(VENV)/.ready            ## make .venv with everything in it

demo: setup                      ## train, improve, compare and report on synthetic images (ten minutes on two cores)
	$(RUN)/featlift demo

test: setup                      ## lint, types and all tests
	$(RUN)/ruff format --check src tests benchmarks docs/*.py
	$(RUN)/ruff check src tests benchmarks docs/*.py
	$(RUN)/basedpyright
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2 --dist worksteal

fuzz: setup                      ## all mutated files and images, 200 random data sets against pycocotools → docs/reliability.md
	FEATLIFT_FUZZ=1 $(RUN)/python -m pytest -n 0 tests/fuzz

$(VENV)/.integrations: $(VENV)/.ready
	$(RUN)/uv sync --locked --inexact --compile-bytecode --all-extras --group dev --group integrations --python $(RUN)/python
	touch $@

test-integrations: $(VENV)/.integrations  ## other libraries' detectors and trainers: upgraded, trained, exported
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2 --dist worksteal -rs tests/integrations tests/benchmarks/test_coco_level.py tests/benchmarks/test_converged.py

lint: setup                      ## linter, types, and the numbers of the package
	$(RUN)/ruff check src tests benchmarks docs/*.py
	$(RUN)/basedpyright
	$(RUN)/python -m pytest -s tests/test_architecture.py -k numbers

format: setup
	$(RUN)/ruff format src tests benchmarks docs/*.py
	$(RUN)/ruff check --fix src tests benchmarks docs/*.py

benchmark: setup                 ## interleaved timings → benchmarks/results/*.json
	$(RUN)/python benchmarks/run.py

chaos: setup                     ## kill trainings and indexing, damage their files → docs/reliability.md (about 15 minutes)
	$(RUN)/python benchmarks/chaos.py

docs: setup                      ## generated parts of the pages: options, tables of results, links to the code, architecture
	$(RUN)/python -m featlift.cli.options
	$(RUN)/python benchmarks/report.py
	$(RUN)/python docs/link_equations.py
	$(RUN)/python docs/draw_architecture.py

site: docs                       ## documentation site → site/index.html
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache
