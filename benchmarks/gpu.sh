#!/usr/bin/env bash
# Checks, timings and a training on a GPU, in one command of at most nine minutes; results: benchmarks/results/gpu.json.
# Packages that the machine lacks are installed from wheels/ next to this repository's README, if it exists:
#   python -m pip download --only-binary :all: --no-deps -d wheels hotcoco jsonargparse docstring-parser typeshed-client filelock rich jinja2 matplotlib
set -euo pipefail
cd "$(dirname "$0")/.."
if compgen -G "wheels/*.whl" > /dev/null; then
  python3 -m pip install --quiet --no-index --no-deps wheels/*.whl
fi
export PYTHONPATH="$PWD/src:$PWD/benchmarks:$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
