# make demo    set up .venv and run the main job on generated doodles: no data, network or GPU
# make test    set up, then every test that needs no special service
# make check   lint, formatting, types, and the one direction of imports
# make bench   the benchmarks; numbers belong into benchmarks/RESULTS.md
# make soak    the long tests
# make clean   delete .venv, caches and the demo's data; runs/ and mlflow.db stay

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet \
	--constraint infra/constraints.txt

.PHONY: demo test check bench soak clean

demo: .venv/user
	$(BIN)/quickdraw demo

test: .venv/developer
	$(BIN)/pytest -m "not soak"

check: .venv/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/bench
	$(BIN)/python benchmarks/bench_main_job.py
	$(BIN)/python benchmarks/bench_ingest.py
	$(BIN)/python benchmarks/bench_render.py
	$(BIN)/python benchmarks/bench_loader.py
	$(BIN)/python benchmarks/bench_step.py
	$(BIN)/python benchmarks/bench_evaluate.py

soak: .venv/developer
	$(BIN)/pytest -m soak

clean:
	rm -rf .venv build *.egg-info demo .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/user: pyproject.toml infra/constraints.txt
	@echo "Setting up .venv with $(PYTHON): some 200 packages, torch among them, a few minutes"
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[train]'
	@touch $@

.venv/developer: .venv/user
	$(INSTALL) --editable '.[train,dev]'
	@touch $@

.venv/bench: .venv/developer
	$(INSTALL) --editable '.[train,dev,bench]'
	@touch $@
