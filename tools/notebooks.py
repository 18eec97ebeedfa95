"""Commands for notebooks: ``python -m tools.notebooks check|gate|canonicalise|run|store|figure|figures``."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lt_lib._checks import check_integer
from lt_lib._cores import available_cores
from lt_lib.batch.parameters import parse_text, read_parameters, unknown_name
from tools.canonical import write_canonical
from tools.check import all_problems, lecture_paths, notebook_paths, parameters_source, read_notebook, shown_figures
from tools.execute import QUICK_ENVIRONMENT, ROOT, find_notebook, gate, longest_first, run_notebook


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 on success, 1 on failure, 2 on wrong input."""
    options = _parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except (ValueError, TypeError) as error:
        print(error, file=sys.stderr)
        return 2


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "check":
        found = all_problems(_paths(options.notebooks))
        print("\n".join(found) if found else "all notebooks keep the rules")
        return 1 if found else 0
    if options.command == "gate":
        return gate(_paths(options.notebooks), check_integer(options.workers, "workers", minimum=1))
    if options.command == "canonicalise":
        for path in _paths(options.notebooks):
            write_canonical(read_notebook(path), path)
        return 0
    if options.command == "run":
        return _run(find_notebook(options.notebook), options.parameter, options.to)
    if options.command == "store":
        path = find_notebook(options.notebook)
        return _execute_quick([path], store=True)
    if options.command == "figure":
        return _execute_quick([_owner(options.figure)])
    return _execute_quick(lecture_paths(ROOT))


def _run(notebook: Path, assignments: list[str], target: Path | None) -> int:
    known = {parameter.name: parameter for parameter in read_parameters(parameters_source(read_notebook(notebook)))}
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"`-p` must be name=value, got {assignment!r}.")
        if name not in known:
            raise ValueError(unknown_name(name, list(known)))
        values[name] = parse_text(name, known[name].annotation, text)
    target = target or ROOT / "runs" / notebook.name
    try:
        run_notebook(notebook, target.resolve(), values)
    except (ValueError, TypeError):
        raise
    except Exception as error:  # papermill and the kernel fail in many ways; all of them mean that the run failed
        print(f"{notebook.name} failed: {error}", file=sys.stderr)
        return 1
    print(f"wrote {os.path.relpath(target)}")
    return 0


def _execute_quick(paths: list[Path], *, store: bool = False) -> int:
    """Execute notebooks at the quick profile, one per core, and bring ``figures/`` and its index up to date."""
    # matplotlib is slow to import, and the other commands do not need it.
    from tools.figure_index import write_index

    lectures = lecture_paths(ROOT)

    def execute(path: Path) -> tuple[int, str]:
        start = time.perf_counter()
        # A training run leaves its results where runs lie; only lectures draw the figures of the companion.
        out = ROOT / "figures" if path in lectures else ROOT / "runs" / path.stem
        environment = {**os.environ, **QUICK_ENVIRONMENT, "LT_OUT": str(out)}
        command = [sys.executable, "-m", "tools.run", str(path), "--to", str(_executed(path))]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        line = f"{path.stem}: {'done' if done.returncode == 0 else 'FAILED'} in {time.perf_counter() - start:.0f} s"
        print(line, flush=True)
        return done.returncode, done.stderr

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        results = list(pool.map(execute, longest_first(paths)))
    failures = [stderr for code, stderr in results if code != 0]
    if failures:
        print("\n".join(failures), file=sys.stderr)
        return 1
    if store:
        for path in paths:
            write_canonical(read_notebook(_executed(path)), path)
    # Last, because the index takes the owner of a figure from the stored notebooks.
    write_index(ROOT)
    return 0


def _executed(path: Path) -> Path:
    return ROOT / "runs" / "figures" / path.name


def _owner(figure: str) -> Path:
    shown = {shown.name: path for path in lecture_paths(ROOT) for shown in shown_figures(read_notebook(path))}
    if figure not in shown:
        raise ValueError(f"`figure` must be one of {', '.join(sorted(shown)) or 'none yet'}, got {figure!r}.")
    return shown[figure]


def _paths(names: list[str]) -> list[Path]:
    return [find_notebook(name) for name in names] if names else notebook_paths(ROOT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in [
        ("check", "hold stored notebooks against the rules, without a kernel"),
        ("gate", "the same, then compare stored outputs with a fresh run"),
        ("canonicalise", "rewrite notebooks in canonical form"),
    ]:
        command = commands.add_parser(name, help=text)
        command.add_argument("notebooks", nargs="*", help="numbers, names or paths; all numbered notebooks if absent")
        if name == "gate":
            command.add_argument("--workers", type=int, default=2, help="kernels at once")
    command = commands.add_parser("run", help="execute one notebook with parameters into a file of its own")
    command.add_argument("notebook", help="number, name or path")
    command.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--to", type=Path, help="the executed copy; runs/<notebook> if absent")
    command = commands.add_parser("store", help="execute one notebook and store its outputs in place")
    command.add_argument("notebook", help="number, name or path")
    command = commands.add_parser("figure", help="execute the notebook which owns a figure")
    command.add_argument("figure", help="name of the figure")
    commands.add_parser("figures", help="execute all lectures and write figures/ with its index")
    return parser


if __name__ == "__main__":
    sys.exit(main())
