"""Grids of notebook runs: planned from one YAML file, run anywhere, resumed after anything, collected into one table.

The parts, in the order in which a batch goes through them:

- `notebook`, `parameters`: a notebook as a file, and the checked values of its parameters;
- `grid`, `sources`, `plan`: which runs there are, and the content-addressed name of each;
- `place`, `outcomes`, `states`: the folder that alone says what is done, and why what is not done is not;
- `attempt`, `kernels`, `processes`: one try at one run, in a process of its own that leaves nothing behind;
- `driver`, `engines`, `dask_engine`, `slurm`, `kubernetes`, `devices`: who starts attempts, and where;
- `tables`, `reports`, `doctor`: what came out.

The commands `lt-lib batch`, `status`, `failures`, `retry`, `verify`, `collect` and `doctor` are built on it.
"""

from lt_lib.batch.driver import Summary, run_batch
from lt_lib.batch.grid import Grid, GridError, load_grid
from lt_lib.batch.place import Place
from lt_lib.batch.plan import Plan, Run, make_plan
from lt_lib.batch.tables import Table, collect

__all__ = [
    "Grid",
    "GridError",
    "Place",
    "Plan",
    "Run",
    "Summary",
    "Table",
    "collect",
    "load_grid",
    "make_plan",
    "run_batch",
]
