#!/usr/bin/env bash
# Writes requirements.lock from the ranges in pyproject.toml: exact versions for Python 3.11-3.13 on every platform.
# torch and torchvision are fixed as a pair here, since their builds only work together.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "make lock needs the program uv, which writes one lock for all platforms." >&2; exit 1; }
uv pip compile pyproject.toml --all-extras --quiet \
    --constraint <(printf 'torch==2.14.1\ntorchvision==0.29.1\n') \
    --universal --python-version 3.11 --fork-strategy fewest --prerelease disallow \
    --no-header --no-annotate --no-emit-index-url "$@" \
    --output-file requirements.lock
