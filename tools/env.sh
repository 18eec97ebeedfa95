#!/usr/bin/env bash
# Creates .venv if there is none, installs requirements.lock and this package, and leaves the stamp named by $1.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=$1
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

if [ -x .venv/bin/python ]; then
    if ! .venv/bin/python -c "$supported"; then
        echo ".venv holds $(.venv/bin/python --version), but Python 3.11, 3.12 or 3.13 is needed." >&2
        echo "Delete .venv and run make again." >&2
        exit 1
    fi
else
    chosen=
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        # A name on the path may be a stub that starts nothing, so each candidate is asked.
        if command -v "$candidate" >/dev/null && "$candidate" -c "$supported" 2>/dev/null; then
            chosen=$candidate
            break
        fi
    done
    if [ -z "$chosen" ]; then
        echo "No Python 3.11, 3.12 or 3.13 found; looked for: ${PYTHON:-python3.13 python3.12 python3.11 python3}." >&2
        echo "python3 is: $(python3 --version 2>&1 || true). Other versions are not supported, because the locked" >&2
        echo "libraries are not built for them. Install one of the three, or name it: make env PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
    echo "creating .venv with $($chosen --version)"
    "$chosen" -m venv .venv || { echo "Python cannot create environments here (Debian: install python3-venv)." >&2; exit 1; }
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip
echo "installing requirements.lock (some 3 GB on Linux, where torch brings its CUDA libraries)"
.venv/bin/python -m pip install --quiet --requirement requirements.lock
# The lock holds the build backend and all dependencies, so nothing else is fetched here.
.venv/bin/python -m pip install -qq --no-deps --no-build-isolation --editable .
rm -f .venv/.installed-*
touch "$stamp"
