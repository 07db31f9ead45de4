# make run      start a pub on this machine (HOST=, PORT= and DATA= say where)
# make check    format, lint, types and the fast tests: under a minute, before every commit
# make test     everything: check, the slow tests, the real JavaScript clients (needs node and npm), and containers
#               (needs root, podman, buildah, runc and mmdebstrap) and monitoring (needs prometheus and
#               prometheus-alertmanager of Debian)
# make soak     for long what `make test` does for a minute: simulated worlds (SEEDS=), then kill the pub (KILLS=)
#               over large data (MESSAGES=)
# make bench    measure this pub beside ssb-server 16 (needs node and npm; RUNS=, ONLY= and PEERS= choose a part)
# make plots    draw how costs grow, from the results of `make bench ONLY=sweep` (RESULT= says from which)
# make format   let ruff format and mend what it can
# make dashboards   make the JSON that Grafana reads from deploy/grafana/panels.py
# make lock     choose new versions of all dependencies (needs uv)
# make clean    remove everything that the targets above made, but no data

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8008
DATA ?= data
RUNS ?= 3
ONLY ?= default
RESULT ?=
PEERS ?= ours,theirs
SEEDS ?= 5000
KILLS ?= 100
MESSAGES ?= 100000

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
CLIENTS := $(addsuffix /node_modules/.installed,tests/interop/classic tests/interop/db2)

.PHONY: run test check soak bench plots lint format dashboards lock clean

run: $(VENV)/.run
	exec $(BIN)/ssb-pub --data $(DATA) run --host $(HOST) --port $(PORT)

test: lint $(CLIENTS)
	$(BIN)/python -m pytest

check: lint
	$(BIN)/python -m pytest -q -m "not slow and not interop"

soak: $(VENV)/.dev
	$(BIN)/python -m tests.sim --seeds $(SEEDS)
	KILLS=$(KILLS) MESSAGES=$(MESSAGES) $(BIN)/python -m pytest -q -s tests/crash

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile tests/deploy/systemd.Dockerfile
	$(BIN)/shellcheck .ci/run deploy/systemd/install.sh tests/deploy/base.sh
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml

bench: $(VENV)/.bench $(if $(findstring theirs,$(PEERS)),tests/interop/classic/node_modules/.installed)
	$(BIN)/python -m benchmarks --runs $(RUNS) --only $(ONLY) --peers $(PEERS)

plots: $(VENV)/.bench
	$(BIN)/python -m benchmarks.plots $(RESULT)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(VENV)/.dev
	$(BIN)/python deploy/grafana/generate.py

lock: export UV_CUSTOM_COMPILE_COMMAND = make lock
lock: COMPILE = uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url
lock:
	$(COMPILE) pyproject.toml --output-file requirements.lock
	printf 'hatchling\neditables\n' | $(COMPILE) - --output-file requirements-build.lock
	$(COMPILE) pyproject.toml --group dev --output-file requirements-dev.lock \
		--constraints requirements.lock --constraints requirements-build.lock
	$(COMPILE) --group bench --output-file requirements-bench.lock \
		--constraints requirements.lock --constraints requirements-dev.lock
	cd tests/interop/classic && npm update --package-lock-only
	cd tests/interop/db2 && npm update --package-lock-only

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist .containers tests/interop/*/node_modules \
		benchmarks/data
	find pub tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# The stamps make a second run instant. Every package comes with the hash that the lock file says.
$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/pyvenv.cfg
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $@

$(VENV)/.bench: requirements-bench.lock $(VENV)/.dev
	$(PIP) install --require-hashes -r requirements-bench.lock
	touch $@

tests/interop/%/node_modules/.installed: tests/interop/%/package-lock.json
	cd tests/interop/$* && npm ci --loglevel error
	touch $@
