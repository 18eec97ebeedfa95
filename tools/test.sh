#!/usr/bin/env bash
# All that `make test` does after the environment stands. Fails if any step fails, or if a step changes a tracked file.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python

state() {
    # Names of changed and new files, and the content of the changes; empty outside a git checkout.
    git status --porcelain 2>/dev/null || true
    git diff HEAD 2>/dev/null | cksum || true
}

before=$(state)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export LT_OUT=$out OMP_NUM_THREADS=1 PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=0 TQDM_DISABLE=1

echo "== unit tests"
$python -m pytest -q -n 2 --durations=15 tests
echo "== doctests; the numerical modules compare every call with its annotated types and shapes"
numerical=$(printf 'lt_lib.%s,' counts samplers metrics losses models theory data)
$python -m pytest -q -n 2 --doctest-modules --jaxtyping-packages="${numerical}shape_checks.checked" lt_lib
echo "== stored notebooks"
$python -m tools.notebooks gate --workers 2
echo "== source tree"
if [ "$(state)" != "$before" ]; then
    echo "the tests changed the source tree:" >&2
    git status --short >&2
    exit 1
fi
echo "unchanged"
