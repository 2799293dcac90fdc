# `just --list` is the developer's guide. Every recipe uses the checkout's own .venv.

bin := ".venv/bin"

[private]
default:
    @{{bin}}/just --list --unsorted

# Make or refresh .venv with everything that development needs
setup:
    python3 bootstrap.py run -- true

# Format the code and mend what ruff can mend safely
fmt:
    {{bin}}/ruff check --fix-only --quiet .
    {{bin}}/ruff format .

# All static checks and the pure floors' tests: CI runs this after the whole default suite
check: fmt-check lint types floors deps spell test-fast

# Is the code formatted?
fmt-check:
    {{bin}}/ruff format --check .

# All of ruff's rules; the exceptions stand in pyproject.toml with their reasons
lint:
    {{bin}}/ruff check .

# mypy --strict over src, tests and scripts
types:
    {{bin}}/mypy

# Imports point down only, and each heavy library has one door
floors:
    {{bin}}/lint-imports

# Declared dependencies are those in use
deps:
    {{bin}}/deptry src

# Spelling
spell:
    {{bin}}/codespell

# The default tests on all cores; arguments go to pytest (`-n 0` for one process and its debugger)
test *args:
    {{bin}}/pytest -n logical --maxprocesses 8 --dist loadfile {{args}}

# The tests of the pure floors: no server, no process, seconds
test-fast *args:
    {{bin}}/pytest -q tests/events tests/state tests/scheduling tests/recovery tests/reports tests/suites {{args}}

# The long drills
test-slow *args:
    {{bin}}/pytest -m slow {{args}}

# The deterministic simulation of a cell in trouble, by so many seeds
simulate seeds="10000":
    SIMULATED_SEEDS={{seeds}} {{bin}}/pytest -q -m slow -n logical tests/leadership/test_simulation.py

# A cluster of containers; without a running engine it starts its own (root and Debian's docker.io)
test-docker *args:
    {{bin}}/pytest -m docker tests/infra {{args}}

# The HTML report in a real browser: `.venv/bin/pip install --no-build-isolation -e '.[browser]'`, `apt install chromium`
test-browser *args:
    {{bin}}/pytest -m browser -n 0 {{args}}

# Trouble cases from practice, and pytest 7.0 to 9.2: makes environments of their own, with an index of packages
test-foreign *args:
    {{bin}}/pytest -m foreign -n logical --maxprocesses 8 --dist loadfile tests/foreign {{args}}

# Random plans against a model that knows nothing of slices: each test has the one result that is its own
conserve plans="10000":
    CONSERVED_PLANS={{plans}} {{bin}}/pytest -q tests/suites/test_conservation.py

# Foreign test suites, downloaded and run through dtest
acceptance *args:
    {{bin}}/pytest -m acceptance {{args}}

# Resolve requirements/*.lock again; `just lock --upgrade` lifts every version
lock *args:
    {{bin}}/python tools/lock.py {{args}}

# Record a golden journal: `just golden --list` names the scenes; CONTRIBUTING.md says when
golden *args:
    {{bin}}/python -m tests.golden.record {{args}}

# Write the JSON Schemas, the AsyncAPI document and the tables of fields again
schemas:
    {{bin}}/python tools/schemas.py --write .

# Load test of a cell on this machine
stress *args:
    {{bin}}/dtest stress {{args}}

# Measure the core, the read side and real processes (JSON; see benchmarks/README.md)
bench:
    {{bin}}/python benchmarks/core.py
    {{bin}}/python benchmarks/processes.py
    {{bin}}/dtest stress --json

# See dtest work: a cell, agents and a run on this machine
demo *args:
    {{bin}}/dtest demo {{args}}

# Start a cell on this machine
up *args:
    {{bin}}/dtest up {{args}}

# Stop the cell on this machine
down *args:
    {{bin}}/dtest down {{args}}
