"""The commands of `lt-lib` that deal with batches: arguments in, lines and an exit status out."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lt_lib._cores import available_cores
from lt_lib.batch import driver, kubernetes, reports, tables
from lt_lib.batch.devices import place_workers, visible_gpus
from lt_lib.batch.doctor import examine
from lt_lib.batch.earlier import compare_with_earlier
from lt_lib.batch.engines import Engine, EngineError, ProcessEngine
from lt_lib.batch.grid import Grid, load_grid
from lt_lib.batch.object_place import open_place
from lt_lib.batch.outcomes import FAILURES, in_words
from lt_lib.batch.place import DamagedPin, Place, storage_problem
from lt_lib.batch.plan import Plan, make_plan, plan_content
from lt_lib.batch.slurm import SlurmEngine, array_script
from lt_lib.batch.states import RunState, run_name, survey

EXIT_CODES = (
    "exit status: 0 all runs are done; 1 some are not; 2 a fault in the grid or the call; 3 no workers, or the "
    "scheduler was lost; 4 the place cannot be written; 5 another batch works on this grid; 130 or 143 interrupted, "
    "the same command goes on"
)

# Options that mean something for some ways of running only, and these ways.
BELONGS = {
    "emit": ("slurm",),
    "sbatch": ("slurm",),
    "image": ("k8s",),
    "volume": ("k8s",),
    "worker_timeout": ("slurm", "an address"),
}


def add_commands(groups: Any) -> None:
    """Add the commands to a parser's groups; each sets `command` to a function of the parsed options.

    Args:
        groups: what `ArgumentParser.add_subparsers` returns.
    """
    command = groups.add_parser("batch", help="run every point of a grid that is not done", epilog=EXIT_CODES)
    command.add_argument("grid", type=Path, help="a YAML file, see notebooks/grids")
    command.add_argument(
        "--out", type=str, required=True, metavar="PLACE", help="what holds the runs: a folder, or s3://bucket/prefix"
    )
    command.add_argument("--workers", type=int, metavar="N", help="runs at once; default: as many as fit")
    command.add_argument(
        "--scheduler",
        default="local",
        metavar="local|sequential|slurm|k8s|ADDRESS",
        help="local (default): Dask's workers on this machine; sequential: one run after the other, without Dask; "
        "slurm: one job per run, or a script with --emit; k8s: print a manifest whose pods share the work; or the "
        "address or the scheduler file of a running Dask scheduler",
    )
    command.add_argument("--dry-run", action="store_true", help="show runs, what is done, and the expected cost")
    command.add_argument("--join", action="store_true", help="work beside another batch of this grid")
    command.add_argument(
        "--worker-timeout",
        type=float,
        metavar="SECONDS",
        help="how long to wait for workers; default: 60, and as long as its queue takes with slurm",
    )
    command.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="slurm: a further option, --sbatch=--time=4:00:00",
    )
    command.add_argument(
        "--emit",
        action="store_true",
        help="slurm: print a script for sbatch instead, whose jobs share the runs and need no driver",
    )
    command.add_argument("--state", help="refuse if notebook or sources are not in this state, which --dry-run prints")
    command.add_argument("--image", help="k8s: container image that holds this library and the grid")
    command.add_argument(
        "--volume",
        help="k8s: persistent volume claim that holds a place that is a folder; a run of an evicted pod goes on "
        "from its checkpoint there only, with s3:// it begins anew",
    )
    command.set_defaults(command=_guarded(_batch))
    for name, function, text in (
        ("status", _status, "what is done, runs, failed and why"),
        ("failures", _failures, "every failed run with its attempts and logs"),
        ("retry", _retry, "let failed runs run again with the next batch"),
        ("verify", _verify, "compare every published file, and the sources that runs execute, with their digests"),
        ("collect", _collect, "one table of all results"),
        ("doctor", _doctor, "look at everything that a batch needs"),
    ):
        command = groups.add_parser(name, help=text)
        place = {"nargs": "?"} if name == "doctor" else {}
        command.add_argument("place", type=str, metavar="PLACE", help="what a batch wrote to", **place)
        command.set_defaults(command=_guarded(function))
        if name == "status":
            command.add_argument("--json", action="store_true", help="as JSON")
        if name == "retry":
            command.add_argument("--id", nargs="+", default=[], metavar="RUN", help="these runs only")
            command.add_argument("--kind", help=f"only runs that failed so: {', '.join(FAILURES)}")
        if name == "verify":
            command.add_argument(
                "--quarantine", action="store_true", help="move damaged runs and sources away, to be made again"
            )
        if name == "collect":
            command.add_argument("-o", "--output", type=Path, required=True, help="FILE.parquet or FILE.csv")
            command.add_argument("--grid", nargs="+", default=[], metavar="NAME", help="these grids only")
            command.add_argument("--allow-partial", action="store_true", help="an incomplete table is no failure")


def _guarded(function: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Errors as one message and the exit status that belongs to them."""

    def run(options: argparse.Namespace) -> int:
        try:
            return function(options)
        except EngineError as error:
            code, message = driver.NO_ENGINE, str(error)
        except driver.PlaceBusy as error:
            code, message = driver.BUSY, str(error)
        except (ValueError, TypeError, ModuleNotFoundError) as error:
            code, message = driver.USAGE, str(error)
        except BrokenPipeError:
            raise  # nobody reads the output any more, which is not for one command to answer
        except Exception as error:
            if not isinstance(error, OSError) and not storage_problem(error):
                raise
            code, message = driver.STORAGE, str(error)
        print(f"lt-lib: {message}", file=sys.stderr)
        return code

    return run


def _batch(options: argparse.Namespace) -> int:
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"`--workers` must be at least 1, got {options.workers}.")
    if options.worker_timeout is not None and not options.worker_timeout > 0:
        raise ValueError(f"`--worker-timeout` must be a number of seconds above 0, got {options.worker_timeout:g}.")
    _check_choice(options)
    grid = load_grid(options.grid)
    plan, place = make_plan(grid), open_place(options.out)
    if options.state not in (None, plan.pin):
        raise ValueError(
            f"`--state` must be that of the notebook and its sources, {plan.pin}, got {options.state!r}: they were "
            "edited since. A script that names the state must be made again."
        )
    if options.dry_run:
        return _dry_run(plan, place, _at_once(options, grid))
    if options.emit:
        return _print_script(options, plan)
    if options.scheduler == "k8s":
        return _print_manifest(options, grid)
    make_engine = _engine_maker(options, grid)
    left_out = compare_with_earlier(plan, place, join=options.join)
    if left_out:
        _say(left_out)
    summary = driver.run_batch(plan, place, make_engine, join=options.join, say=_say)
    reports.write_reports(place, plan_content(plan))
    parts = [f"{len(summary.done)} done", f"{len(summary.cached)} were done before"]
    parts += [f"{len(summary.failed)} failed"] * bool(summary.failed) + [f"{len(summary.left)} left"] * bool(
        summary.left
    )
    print(
        f"{grid.name}: {', '.join(parts)}, in {summary.seconds:.1f} s" + ". " * bool(summary.message) + summary.message
    )
    print(f"report: {place.grid_folder(grid.name) / 'report.html'}")
    return summary.exit_code


def _check_choice(options: argparse.Namespace) -> None:
    """Refuse options that the chosen scheduler would not use, in a dry run as well."""
    chosen = options.scheduler if options.scheduler in ("local", "sequential", "slurm", "k8s") else "an address"
    for name, where in BELONGS.items():
        if getattr(options, name) and chosen not in where:
            option = name.replace("_", "-")
            raise ValueError(
                f"`--{option}` must be given with --scheduler {' or '.join(where)}, got {options.scheduler!r}."
            )
    if chosen == "an address":
        from lt_lib.batch.dask_engine import check_address, scheduler_address

        if options.workers is not None:
            raise ValueError("`--workers` must not be given with the address of a scheduler, which has its workers.")
        check_address(scheduler_address(options.scheduler))
    if chosen == "sequential" and options.workers not in (None, 1):
        raise ValueError(f"`--workers` must be 1 with --scheduler sequential, got {options.workers}.")
    if chosen == "slurm":
        _slurm_place(options)
    if chosen == "k8s":
        for name in ["image", "workers"] + ["volume"] * ("://" not in options.out):
            if getattr(options, name) is None:
                raise ValueError(f"`--{name}` must be given with --scheduler k8s.")


def _engine_maker(options: argparse.Namespace, grid: Grid) -> Callable[[], Engine]:
    """Check the choice of engine now, and start it only when there is something to run."""
    from lt_lib.batch import dask_engine

    chosen = options.scheduler
    if chosen == "slurm":
        return _slurm_maker(options, grid)
    if chosen not in ("local", "sequential"):
        timeout = {} if options.worker_timeout is None else {"worker_timeout": options.worker_timeout}
        return lambda: dask_engine.remote_engine(chosen, **timeout)
    devices, message = _own_workers(options, grid)

    def start() -> Engine:
        if message:
            _say(message)
        return ProcessEngine(1, devices) if chosen == "sequential" else dask_engine.local_engine(devices)

    return start


def _own_workers(options: argparse.Namespace, grid: Grid) -> tuple[list[str], str]:
    """The workers on this machine, see `place_workers`."""
    workers = 1 if options.scheduler == "sequential" else options.workers
    fitting = max(1, available_cores() // grid.resources.cpus)
    gpus = visible_gpus() if grid.resources.gpus else []
    return place_workers(gpus, grid.resources.gpus, workers, fitting)


def _at_once(options: argparse.Namespace, grid: Grid) -> int | None:
    """How many runs go on at once; None where that is known only to a scheduler, which a dry run does not ask."""
    if options.scheduler in ("local", "sequential"):
        return len(_own_workers(options, grid)[0])
    return int(options.workers) if options.scheduler in ("slurm", "k8s") else None


def _slurm_maker(options: argparse.Namespace, grid: Grid) -> Callable[[], Engine]:
    folder, gpus = _slurm_place(options), grid.resources.gpus
    return lambda: SlurmEngine(
        folder, options.workers, gpus=gpus, options=options.sbatch, start_timeout=options.worker_timeout
    )


def _slurm_place(options: argparse.Namespace) -> Path:
    if options.workers is None:
        raise ValueError("`--workers` must say how many jobs there may be at once with --scheduler slurm.")
    if "://" in options.out:
        raise ValueError(f"`--out` must be a folder with --scheduler slurm, got {options.out!r}.")
    return Path(options.out).resolve()


def _print_script(options: argparse.Namespace, plan: Plan) -> int:
    text = array_script(
        plan.grid.name,
        options.grid.resolve(),
        _slurm_place(options),
        plan.pin,
        jobs=options.workers,
        cpus=plan.grid.resources.cpus,
        gpus=plan.grid.resources.gpus,
        options=options.sbatch,
    )
    print(text, end="")
    return driver.DONE


def _print_manifest(options: argparse.Namespace, grid: Grid) -> int:
    text = kubernetes.manifest(
        grid.name,
        str(options.grid),
        options.out,
        image=options.image,
        volume=options.volume,
        workers=options.workers,
        cpus=grid.resources.cpus,
        gpus=grid.resources.gpus,
    )
    print(text, end="")
    return driver.DONE


def _dry_run(plan: Plan, place: Place, workers: int | None) -> int:
    grid = plan.grid
    if place.is_open:
        states = survey(place, plan_content(plan))
    else:
        states = [RunState(run.id, run.parameters, "pending") for run in plan.runs]
    for state in states:
        print(f"{state.state:<8} {run_name(state, grid.varied)}")
    done = [state for state in states if state.state == "done"]
    rest = len(states) - len(done)
    merged = f", {grid.merged} points that say the same merged" if grid.merged else ""
    print(f"{grid.name}: {len(states)} runs{merged}, {len(done)} done, {rest} to run; state {plan.pin}")
    seconds = sorted(state.manifest["seconds"] for state in done)
    each = seconds[len(seconds) // 2] if seconds else grid.estimate
    if rest and each:
        count = min(workers or 1, rest)
        source = "as measured" if seconds else "as the grid says"
        ending = f"with {count} at once" if workers else "of work, divided by the workers of the scheduler"
        print(f"expected: {in_words(each)} per run, {source}; {in_words(rest * each / count)} {ending}")
    return driver.DONE


def _status(options: argparse.Namespace) -> int:
    content = reports.status(open_place(options.place))
    print(json.dumps(content, indent=1) if options.json else reports.status_text(content))
    complete = all(grid["counts"]["done"] == grid["runs"] for grid in content["grids"])
    return driver.DONE if complete else driver.INCOMPLETE


def _failures(options: argparse.Namespace) -> int:
    text = reports.failures_text(open_place(options.place))
    print(text)
    return driver.DONE if text == "no failed runs" else driver.INCOMPLETE


def _retry(options: argparse.Namespace) -> int:
    from lt_lib._checks import check_known  # loads NumPy, which most commands do without

    if options.kind is not None:
        check_known(options.kind, "--kind", FAILURES)
    place = open_place(options.place)
    failed = [state for plan in place.plans() for state in survey(place, plan) if state.state == "failed"]
    unknown = sorted(set(options.id) - {state.id for state in failed})
    if unknown:
        raise ValueError(f"`--id` must name failed runs, got {', '.join(unknown)}.")
    chosen = [
        state
        for state in failed
        if (not options.id or state.id in options.id) and options.kind in (None, state.outcome["kind"])
    ]
    count = sum(place.forget_failures(state.id) for state in chosen)
    print(f"{count} runs may run again; start the same batch to run them")
    return driver.DONE


def _verify(options: argparse.Namespace) -> int:
    place = open_place(options.place)
    damaged = {}
    known = {run["id"]: run["digest"] for plan in place.plans() for run in plan["runs"]}
    for run in place.published():
        try:
            place.manifest(run, known.get(run, ""), contents=True)
        except ValueError as error:
            damaged[run] = str(error)
            print(f"{run}: {error}")
            if options.quarantine:
                print(f"  moved to {place.quarantine(run, str(error))}")
    print(f"{len(place.published())} published runs are there, {len(damaged)} damaged were found")
    pins = _damaged_pins(place, move=options.quarantine)
    return driver.INCOMPLETE if damaged or pins else driver.DONE


def _damaged_pins(place: Place, *, move: bool) -> int:
    """Name the pins that are not whole; the next batch that needs one writes it anew, moved away or not."""
    found = 0
    for pin in place.pins():
        try:
            place.check_pin(pin)
        except DamagedPin as error:
            found += 1
            print(error)
            if move:
                print(f"  moved to {place.quarantine_pin(pin, str(error))}")
    return found


def _collect(options: argparse.Namespace) -> int:
    table = tables.collect(open_place(options.place), options.grid)
    tables.write_table(table, options.output)
    print(f"wrote {options.output}: {table.got} of {table.expected} runs")
    if table.complete or options.allow_partial:
        return driver.DONE
    for grid, run, state in table.missing[:20]:
        print(f"  {grid} {run}: {state}", file=sys.stderr)
    print("lt-lib: the grids are not complete; the table says so in its column `complete`", file=sys.stderr)
    return driver.INCOMPLETE


def _doctor(options: argparse.Namespace) -> int:
    good = True
    for subject, fine, finding in examine(open_place(options.place) if options.place else None):
        print(f"{'ok ' if fine else 'BAD'} {subject}: {finding}", flush=True)
        good = good and fine
    return driver.DONE if good else driver.INCOMPLETE


def _say(line: str) -> None:
    print(line, flush=True)
