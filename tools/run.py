"""``python -m tools.notebooks run`` in a process that loads less: ``python -m tools.run NOTEBOOK [--to TARGET]``."""

import sys

from lt_lib.batch.kernels import leave_out_unneeded

if __name__ == "__main__":
    leave_out_unneeded()
    # Only now: the checks of notebooks would else bring the libraries along.
    from tools.notebooks import main

    sys.exit(main(["run", *sys.argv[1:]]))
