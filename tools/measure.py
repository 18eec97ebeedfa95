r"""Measure methods of a preset over seeds and append their rows to a results table.

    python -m tools.measure --preset cifar-small --dataset folder:data/cifar10-jpeg \
        --methods LDAM LDAM-DRW ERM CB-softmax --seeds 0 1 --out results/cifar10-jpeg-small.csv

Rows that the table already holds (same config hash) are not measured again, and an interrupted run goes on from its
checkpoint. Several processes on one machine may fill one table, say one for each seed. A deferred method and its
undeferred partner (LDAM-DRW and LDAM, DRW and ERM) do exactly the same until the switch, so the second of them starts
from the first one's snapshot at that epoch: on a CPU the bits are those of a run from scratch, and a fifth of the work
is left.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from lt_lib import data, recipes, training
from lt_lib._paths import write_whole


def main(words: Sequence[str] | None = None) -> int:
    """Measure what the table lacks; the exit code is 0, or 2 for a wrong argument or data that are not there."""
    arguments = _parse(words)
    try:
        planned, dataset = _prepare(arguments)
    except (ValueError, TypeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for method, config in planned:
        if config.hash() in {row["config_hash"] for row in read_rows(arguments.out)}:
            print(f"{method}, seed {config.seed}: in the table already", flush=True)
            continue
        result = measure(config, dataset, arguments.checkpoints)
        append_row(arguments.out, result)
        result.save(arguments.checkpoints / config.hash())
        print(f"{method}, seed {config.seed}: accuracy {result.accuracy_last:.4f}, {result.seconds:.0f} s", flush=True)
    return 0


def _prepare(arguments: argparse.Namespace) -> tuple[list[tuple[str, recipes.RunConfig]], data.Dataset]:
    # All of them first: a wrong name is refused before anything is trained.
    changes = recipes.parse_changes(recipes.RunConfig, arguments.set)
    for name, option in (("dataset", "--dataset"), ("seed", "--seeds")):
        if name in changes:
            raise ValueError(f"`set` must leave `{name}` to {option}, got {name}={changes[name]}.")
    planned = plan(arguments.preset, arguments.methods, arguments.seeds, dataset=arguments.dataset, **changes)
    dataset = data.load(arguments.dataset, root=changes.get("data_root") or None)
    for _, config in planned:
        try:
            recipes.draw_subset(config, dataset)
        except ValueError as error:
            raise ValueError(f"{error} (Preset {arguments.preset}; --set changes its fields.)") from error
    return planned, dataset


def plan(
    preset: str, methods: Sequence[str], seeds: Sequence[int], **changes: Any
) -> list[tuple[str, recipes.RunConfig]]:
    """Method and configuration of every run, seeds first; `changes` are fields in place of the preset's.

    Raises:
        ValueError: unknown preset or method, a field out of range, or one that makes another method of a run.
    """
    planned = []
    for seed in seeds:
        for method in methods:
            try:
                config = recipes.preset(preset, method, seed=seed, **changes)
            except ValueError as error:
                raise ValueError(f"{method}: {error}") from error
            expected, name = recipes.method_name(recipes.preset(preset, method)), recipes.method_name(config)
            if name != expected:
                raise ValueError(f"`set` must leave the method as it is, {expected}; got fields that make it {name}.")
            planned.append((method, config))
    return planned


def first_stage(config: recipes.RunConfig) -> recipes.RunConfig:
    """The configuration without its weighting and sampling: what a deferred method does before the switch."""
    plain = recipes.RunConfig()
    reset = ("weighting", "sampling", "defer_until", "normalization", "beta")
    return config.changed(**{name: getattr(plain, name) for name in reset})


def measure(config: recipes.RunConfig, dataset: data.Dataset, folder: Path) -> recipes.RunResult:
    """Run `config` with a checkpoint in `folder`, from its partner's snapshot at the switch if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{config.hash()}.pt"
    switch = training.change_epoch(config.epochs, config.defer_until or recipes.METHODS["DRW"]["defer_until"])
    partner = first_stage(config)
    snapshot = folder / f"{partner.hash()}.pt.epoch{switch}"
    if config != partner and config.defer_until > 0 and snapshot.exists() and not checkpoint.exists():
        data_hash = recipes.draw_subset(config, dataset).hash
        state = training.load_checkpoint(snapshot, identity=f"{partner.hash()}-{data_hash}")
        training.save_checkpoint(checkpoint, state | {"identity": f"{config.hash()}-{data_hash}"})
    return recipes.run(config, checkpoint=checkpoint, snapshots={switch}, dataset=dataset, progress=True)


def read_rows(table: Path) -> list[dict[str, str]]:
    """Rows of a results table; none if it does not exist."""
    if not table.exists():
        return []
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def append_row(table: Path, result: recipes.RunResult) -> None:
    """Add one row to a results table and its provenance to the JSON beside it, each rewritten in one step.

    A row of the same configuration is replaced, so that a configuration never counts twice. Processes that write to one
    table wait for each other, so that none overwrites the row of another.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(table.with_name(f".{table.name}.lock")):
        _append_row(table, result)


def _append_row(table: Path, result: recipes.RunResult) -> None:
    row = {name: _text(value) for name, value in result.to_row().items()}
    rows = [*(old for old in read_rows(table) if old["config_hash"] != row["config_hash"]), row]
    names = list(dict.fromkeys(name for entry in rows for name in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(table, text.getvalue())
    provenance = table.with_suffix(".json")
    known = json.loads(provenance.read_text()) if provenance.exists() else {}
    known[result.config.hash()] = {
        "config": {name: value for name, value in vars(result.config).items() if name != "data_root"},
        "class_counts": result.class_counts,
        "confusion": result.confusion,
        "train_recall": result.train_recall,
        "curves": result.curves,
        "device": result.device,
        "precision": result.precision,
        "data_hash": result.data_hash,
        "versions": result.versions,
    }
    write_whole(provenance, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True, choices=sorted(recipes.PRESETS))
    parser.add_argument("--dataset", required=True, help="name understood by lt_lib.data.load")
    parser.add_argument("--methods", nargs="+", required=True, help="names of lt_lib.recipes.METHODS")
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of RunConfig, such as model=resnet8 beta=0.99",
    )
    parser.add_argument("--out", type=Path, required=True, help="results table (CSV), made or extended")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/measure"), help="folder for checkpoints")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
