"""The command `lt-lib`, the same as `python -m lt_lib`. It parses arguments, calls the library and prints."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lt_lib
from lt_lib._paths import writable_folder
from lt_lib.batch import _commands as batch_commands

_EXTRAS = "pip install 'lt-lib[train,notebooks,batch]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after the program's name; those of the process if None.

    Returns:
        Exit status: 0 done, 1 a data set is missing or damaged, a file cannot be read, a loss is no longer finite or a
        check of a claim broke, 2 wrong use or a package that is not installed, 141 nobody reads the output any more.
    """
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError as error:
        if not _reader_is_gone():
            print(f"lt-lib: {error}", file=sys.stderr)
            return 1
        # The reader, such as `head`, has what it wanted; and what is left in the buffer has nowhere to go at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lt_lib"):
            raise
        # Where the library itself names what is missing, the error carries no module.
        text = f"this command needs {error.name}, which comes with {_EXTRAS}" if error.name else error
        print(f"lt-lib: {text}", file=sys.stderr)
        return 2
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        print(f"lt-lib: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | TypeError) else 1


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more; another pipe may be the broken one."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in watch.poll(0))


def _list(options: argparse.Namespace) -> int:
    from lt_lib import data

    rows = data.overview(options.root or None)
    width = max(len(name) for name, _, _ in rows)
    for name, state, description in rows:
        print(f"{name:<{width}}  {state:<8}  {description}")
    return 0


def _get(options: argparse.Namespace) -> int:
    from lt_lib import data
    from lt_lib.data.image_files import MADE_UP

    if options.name == MADE_UP:
        print(f"{options.name}: written into {data.write_made_up_images(data.data_root(options.root or None))}")
        return 0
    if options.name in data.image_file_names():
        # Too large, or under terms, to be fetched by a word: the report says what is missing and how to get it.
        return _check(options)
    if options.name in data.extra_names():
        found = data.load_extra(options.name, root=options.root or None, download=True)
        print(f"{options.name}: {len(found.split)} further samples, {len(found.class_names)} classes")
        return 0
    dataset = data.load(options.name, root=options.root or None, download=True)
    sizes = f"{len(dataset.train.targets)} training and {len(dataset.test.targets)} test samples"
    print(f"{options.name}: {sizes}, {dataset.num_classes} classes")
    return 0


def _check(options: argparse.Namespace) -> int:
    from lt_lib import data

    report = data.check(options.name, root=options.root or None)
    print(f"{report.name}: {report.status}")
    for detail in report.details:
        print(f"  {detail}")
    return 0 if report.status == "ok" else 1


def _claims(options: argparse.Namespace) -> int:
    from lt_lib.claims import judging, ledger, report

    quick = options.profile == "quick"
    rows = ledger.select(options.id) if options.id else ledger.ledger() if quick else ledger.recorded()
    folder = report.prepare_folder(options.out, rows) if options.out else None
    claims = []
    with _without_gpus():
        for outcome in judging.judge_rows(rows, options.profile, seed=options.seed, workers=options.workers):
            claims.append(outcome)
            if sys.stderr.isatty():
                end = "\n" if len(claims) == len(rows) else ""
                print(f"\r{len(claims)} of {len(rows)} rows", end=end, file=sys.stderr, flush=True)
        errata = [] if options.id or not quick else judging.judge_errata(claims, options.profile, seed=options.seed)
    print(report.claims_text(claims, errata))
    if folder:
        print("wrote", ", ".join(map(str, report.write_report(folder, claims, errata, seed=options.seed))))
    return 1 if any(outcome.verdict == "broken" for outcome in (*claims, *errata)) else 0


@contextmanager
def _without_gpus() -> Iterator[None]:
    """Checks train small networks in float64 on the CPU, on a machine with GPUs as on one without.

    Read by PyTorch when it first looks for GPUs, and inherited by the processes that judge.
    """
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _train_large(options: argparse.Namespace) -> int:
    from lt_lib._checks import check_integer
    from lt_lib.recipes import LargeConfig, large, large_preset, parse_changes

    changes = parse_changes(LargeConfig, options.set)
    if options.stop_after is not None:
        check_integer(options.stop_after, "stop_after", minimum=1)
    if options.devices is not None and "num_devices" in changes:
        raise ValueError(f"`devices` must stand alone, got {options.devices} and `set` num_devices as well.")
    devices = {} if options.devices is None else {"num_devices": options.devices}
    config = large_preset(options.preset, options.method, **devices | changes)

    def report(history: Any) -> None:
        scores = ", ".join(f"{name} {values[-1]:.2%}" for name, values in history.accuracy.items())
        line = (
            f"epoch {history.epochs} of {config.epochs}: loss {history.train_loss[-1]:.4g}, {scores or 'not evaluated'}"
        )
        print(line, f"({history.seconds:.0f} s)", flush=True)

    out = writable_folder(options.out, "out")
    result = large.run_large(config, checkpoint=out / "checkpoint.pt", stop_after=options.stop_after, report=report)
    if result is not None:
        result.save(out)
        print(f"{config.method} on {config.dataset}: top-1 error {1 - result.accuracy_last:.2%}, ", end="")
        print(f"top-5 error {1 - result.top5_last:.2%}, mean recall {result.mean_recall_last:.2%}")
        print(f"wrote {options.out}/result.json")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lt-lib", description="Tools of the long-tail companion.")
    parser.add_argument("--version", action="version", version=f"lt-lib {lt_lib.__version__}")
    groups = parser.add_subparsers(required=True, metavar="GROUP")
    group = groups.add_parser("data", help="list, fetch and verify data sets")
    commands = group.add_subparsers(required=True, metavar="COMMAND")
    for name, function, text in (
        ("list", _list, "every data set and whether it is on disk"),
        ("get", _get, "download a data set if it is missing, or write the made-up one"),
        ("check", _check, "verify checksums and that every file can be read"),
    ):
        command = commands.add_parser(name, help=text)
        if name != "list":
            command.add_argument("name", help="data set, see `lt-lib data list`")
        command.add_argument("--root", default="", help="folder of the data sets; default: LT_DATA, else data")
        command.set_defaults(command=function)
    command = groups.add_parser("claims", help="judge the claims of the notes, and show their errata by running")
    command.add_argument(
        "--id",
        type=int,
        action="extend",
        nargs="+",
        metavar="N",
        help="rows of the ledger; all, and the errata, if absent; at small and paper those that measured runs judge",
    )
    command.add_argument("--profile", default="quick", help="quick (default), small or paper")
    command.add_argument("--out", metavar="DIR", help="write claims.csv, claims.md, claims.json and errata.csv there")
    command.add_argument("--workers", type=int, help="processes; default: one per available core")
    command.add_argument("--seed", type=int, default=0, help="of everything random, default 0")
    command.set_defaults(command=_claims)
    command = groups.add_parser(
        "train-large", help="train a residual network on iNaturalist, ILSVRC or ImageNet-LT, on several GPUs"
    )
    command.add_argument("preset", help="cb-inat17, cb-inat18, cb-ilsvrc, ldam-inat18 or imagenet-lt")
    command.add_argument("--method", default="ERM", help="ERM (default), Focal, CB-focal, DRW, LDAM or LDAM-DRW")
    command.add_argument(
        "--out", metavar="DIR", required=True, help="checkpoint and result; what is there is continued"
    )
    command.add_argument("--devices", type=int, metavar="N", help="processes, one for each GPU; default 1")
    command.add_argument("--stop-after", type=int, metavar="N", help="leave after N epochs; the same command goes on")
    command.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of lt_lib.recipes.LargeConfig, such as depth=152 image_size=320",
    )
    command.set_defaults(command=_train_large)
    batch_commands.add_commands(groups)
    return parser
