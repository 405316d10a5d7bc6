# make demo        set up .venv and run the main job on generated doodles: no data, network or GPU
# make test           set up, then every test that needs no special service, in minutes
# make test-services  tests with a Prefect server and worker, several hosts, a browser
# make check       lint, formatting, types, and the one direction of imports
# make bench       the benchmarks; numbers belong into benchmarks/RESULTS.md
# make bench-full  the whole chain at 0.5, 5 and 50 million drawings: 31 GB of disk, 20 minutes
# make gpu-check   whether all that computes on a GPU does so on this machine's, under 8 minutes
# make soak        the long tests
# make up          build and start the stack of docker-compose.yml, and wait until it is ready
# make stack-demo  run the demo's pipeline on the stack and follow it to its end
# make logs        what the stack's containers say, as it comes
# make down        stop the stack; its volumes stay
# make stack-test  the tests of the stack, on an engine of their own
# make coverage    both suites under coverage, and which lines and branches they ran
# make clean       delete .venv, caches and the demo's data; runs/ and mlflow.db stay

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -qq \
	--constraint infra/constraints.txt

COMPOSE := docker compose

# A shell that writes no bytecode would compile every package anew in every process.
unexport PYTHONDONTWRITEBYTECODE

# Tests at once; many wait for processes more than they compute. One thread each: the cores are
# taken.
JOBS ?= 3
AT_ONCE = --numprocesses $(JOBS) --dist loadfile
FAST := not services and not soak and not stack
SERVICES := services and not soak and not stack

.PHONY: demo test test-services check coverage bench bench-full gpu-check soak up stack-demo logs down stack-test clean

demo: .venv/user
	$(BIN)/quickdraw demo

test: .venv/developer
	OMP_NUM_THREADS=1 $(BIN)/pytest $(AT_ONCE) -m "$(FAST)"

# Two at once: three chains of real processes overload two cores.
test-services: JOBS = 2
test-services: .venv/developer
	OMP_NUM_THREADS=1 $(BIN)/pytest $(AT_ONCE) -m "$(SERVICES)"

# Absolute: sub-processes run in folders of their own.
coverage: JOBS = 2
coverage: export COVERAGE_FILE := $(CURDIR)/build/coverage/data
coverage: .venv/developer
	rm -rf build/coverage
	mkdir -p build/coverage
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest $(AT_ONCE) -m "($(FAST)) or ($(SERVICES))"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

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
	$(BIN)/python benchmarks/bench_shared.py
	$(BIN)/python benchmarks/bench_scale.py
	$(BIN)/python benchmarks/bench_nodes.py
	$(BIN)/python benchmarks/bench_start.py
	$(BIN)/python benchmarks/bench_serve.py

# make bench-full OPTIONS='--drawings 500000 --folder FOLDER'
bench-full: .venv/user
	$(BIN)/python benchmarks/bench_full.py $(OPTIONS)

gpu-check: .venv/user
	$(BIN)/python benchmarks/gpu_check.py --out build

soak: .venv/developer
	$(BIN)/pytest -m soak

up: .env
	$(COMPOSE) up --detach --build --wait --wait-timeout 900

.env:
	@echo "There is no .env: cp .env.example .env, fill in the passwords, then make up" >&2
	@exit 1

stack-demo:
	$(COMPOSE) exec -T prefect-worker sh /app/infra/demo_doodles.sh
	$(COMPOSE) exec -T prefect-worker python /app/infra/run_deployment.py pipeline/demo

logs:
	$(COMPOSE) logs --follow --tail 100

down:
	$(COMPOSE) down

stack-test: .venv/developer
	$(BIN)/pytest -p no:randomly -m "stack and not soak"

clean:
	rm -rf .venv build *.egg-info demo .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The pip that Python brings takes minutes to choose what constraints.txt leaves no choice of. All
# is compiled at once, on all cores, but for the packages' tests; some files are templates, or of
# other versions of Python, and fail.
define set_up
	@echo "Setting up .venv with $(PYTHON): some 200 packages, torch among them, a few minutes"
	$(PYTHON) -m venv .venv
	$(INSTALL) --upgrade pip==26.3
	$(INSTALL) --no-compile --editable '.[$(EXTRAS)]'
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' .venv/lib >/dev/null 2>&1 || true
	@touch .venv/user $@
endef

.venv/user: EXTRAS = train,serve
.venv/user: pyproject.toml infra/constraints.txt
	$(set_up)

.venv/developer: EXTRAS = train,serve,dev
.venv/developer: pyproject.toml infra/constraints.txt
	$(set_up)

.venv/bench: .venv/developer
	$(INSTALL) --editable '.[train,serve,dev,bench]'
	@touch $@
