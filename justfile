# The commands people use. `just` lists them; run them in the activated development environment.

[private]
default:
    @just --list --unsorted

# Install everything for development into the active environment
setup:
    pip install -e '.[dev]'

# Run the shipped model on the sample clip, or on VIDEO, and write overlay.mp4
overlay VIDEO="examples/vtest-10s.avi":
    stm-skeletons run {{VIDEO}} --overlay overlay.mp4 --force

# Open the service with the sample clip as its camera, page at http://127.0.0.1:8080
serve:
    stm-skeletons serve deploy/serve.toml

# Run the quick tests: eight minutes on two cores
test:
    pytest -n auto --dist loadfile

# Run the tests that need no PyTorch: under a minute
test-fast:
    pytest tests/stm_skeletons

# Run the slow tests; those of more than a minute are in `pytest -m soak`
test-slow:
    pytest -m "slow and not gpu and not soak"

# Run the TensorRT path, on a GPU or on the simulated driver
test-gpu:
    pytest -n auto --dist loadfile -m "gpu and not slow"

# Lint, format and check which package imports which
lint:
    ruff check .
    ruff format .
    lint-imports

# Check types; TensorRT's stubs come first, without TensorRT itself
types:
    pip install --quiet --no-deps tensorrt-stubs==10.13.0.35.1
    pyright

# Build the documentation into site/
docs:
    mkdocs build --strict

# Do everything that CI does
ci:
    bash .ci/run
