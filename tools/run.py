"""One notebook with its stored parameters, in a process of its own: ``python -m tools.run NOTEBOOK TARGET``."""

import sys
from pathlib import Path

from lt_lib.batch.kernels import leave_out_unneeded


def main() -> int:
    """Run it; the exit code is 0 on success, 1 on failure."""
    leave_out_unneeded()
    # Only now: what the checks of notebooks load would else bring the libraries along.
    from tools.execute import run_notebook

    if len(sys.argv) != 3:
        print("usage: python -m tools.run NOTEBOOK TARGET", file=sys.stderr)
        return 2
    notebook, target = map(Path, sys.argv[1:])
    try:
        run_notebook(notebook, target, {})
    except Exception as error:  # papermill and the kernel fail in many ways; all of them mean that the run failed
        print(f"{notebook.name} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
