r"""All that is to be measured on a GPU, with one command.

    python tests/benchmarks/gpu.py --out results/gpu-bench.json --dataset folder:data/cifar10-jpeg --seconds 480
    python tests/benchmarks/gpu.py --out results/gpu-precision.json --dataset folder:data/cifar10-jpeg \
        --sections precision

Sections: device, equality, floors, steps, trial, run, together, fixmatch; precision is asked for by name, since it
takes as long as all others. Each runs in a process of its own, because a recording that fails can leave a process
without further recordings, and has a limit of its own. What a section has found is written after each of its rows,
beside `--out`, so that an error or a limit loses nothing but the row at work. Compiling networks takes minutes:
`--ways plain graph compile` adds it. Without `--dataset`, images are made: right for times, too easy for accuracies.
`--smoke` runs everything in miniature on a CPU: it shows that the script works and measures nothing of interest.
"""

import argparse
import itertools
import json
import multiprocessing
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floors import Ceilings, count, floor_seconds, measure_ceilings, median_seconds

from lt_lib import data, models, recipes, training
from lt_lib._cores import available_cores
from lt_lib._paths import write_whole
from lt_lib.data import strong_augment
from lt_lib.models.wide_resnet import decay_without_norm
from lt_lib.recipes import build

SECTIONS = ("device", "equality", "floors", "steps", "trial", "run", "together", "fixmatch", "precision")
WAYS = ("plain", "graph", "compile")
WARM = 5  # epochs after which both sizes of batch have been recorded
MEETING = 60  # seconds after which a training no longer waits for the others
# Seconds that a section may take, without compiled networks; three times as many with them.
LIMITS = {
    "device": 60, "equality": 150, "floors": 60, "steps": 120, "trial": 120, "run": 180, "together": 240,
    "fixmatch": 180, "precision": 900,
}  # fmt: skip
Found = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        model: supervised network.
        wide: depth and width of the semi-supervised one.
        batch: of the supervised network.
        labelled: per semi-supervised step; seven times as many unlabelled.
        n_max: samples of the largest class.
        test: images of the test set.
        side: of an image.
        epochs: of a timed training.
        run_epochs: of the full run.
        steps: of a semi-supervised epoch.
        at_once: numbers of trainings side by side.
        seeds: of the comparison of number formats.
        matrix: rows of the product that measures the rate.
        gigabytes: of the copy that measures the bandwidth.
    """

    model: str = "resnet32"
    wide: tuple[int, int] = (28, 2)
    batch: int = 128
    labelled: int = 64
    n_max: int = 5000
    test: int = 10_000
    side: int = 32
    epochs: int = 12
    run_epochs: int = 200
    steps: int = 40
    at_once: tuple[int, ...] = (1, 4, 16)
    seeds: int = 5
    matrix: int = 8192
    gigabytes: float = 8.0


SMOKE = Sizes(
    model="resnet8", wide=(10, 1), batch=64, labelled=2, n_max=100, test=20, side=8, epochs=6, run_epochs=2, steps=5,
    at_once=(1, 2), seeds=2, matrix=64, gigabytes=0.001,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What every section gets."""

    sizes: Sizes
    device: str
    dataset: data.Dataset
    ways: tuple[str, ...]
    precision_epochs: int

    @property
    def precision(self) -> str:
        """The number format that is timed."""
        return "bfloat16" if self.device == "cuda" else "float32"

    def config(self, **changes: Any) -> recipes.RunConfig:
        """The papers' protocol on long-tailed images at ratio 100."""
        protocol = {
            "dataset": self.dataset.name,
            "model": self.sizes.model,
            "batch_size": self.sizes.batch,
            "n_max": self.sizes.n_max,
            "device": self.device,
            "precision": self.precision,
        }
        return recipes.preset("cifar-paper", "ERM", **(protocol | changes))


def main() -> int:
    """Run the chosen sections; exit status 1 if one of them failed or, on a GPU, a target was missed."""
    arguments = _arguments()
    # Ended from outside, the process must still take the section at work with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    title = "CPU self-check in miniature; its times mean nothing" if arguments.smoke else "measured on a GPU"
    report: Found = {"what": title, "data": arguments.dataset or "made", "sections": {}}
    end = time.monotonic() + arguments.seconds
    for name in arguments.sections:
        started = time.perf_counter()
        section = _measured(name, arguments, end - time.monotonic())
        report["sections"][name] = {**section, "section_seconds": round(time.perf_counter() - started, 2)}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out, json.dumps(report, indent=1) + "\n")
        print(f"== {name}\n{json.dumps(section, indent=1)}", flush=True)
    failed = [name for name, section in report["sections"].items() if '"error":' in json.dumps(section)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    if arguments.smoke:  # in miniature no target means anything
        return int(bool(failed))
    judged = [row for section in report["sections"].values() for row in section.get("targets", [])]
    for row in judged:
        print(f"{'met' if row['met'] else 'MISSED':<7}{row['what']}: {row['value']} (target {row['target']})")
    return int(bool(failed) or not all(row["met"] for row in judged))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="report, JSON")
    parser.add_argument("--dataset", default="", help="name understood by lt_lib.data.load; images are made without it")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS[:-1], metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:2], metavar="WAY", help="of running steps")
    parser.add_argument("--precision-epochs", type=int, default=200, help="length of the paired runs")
    parser.add_argument("--seconds", type=float, default=3600, help="for all sections together")
    parser.add_argument("--smoke", action="store_true", help="everything in miniature, on a CPU")
    parser.add_argument("--here", action="store_true", help="all sections in this process")
    arguments = parser.parse_args()
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("no GPU can be used here; --smoke checks the script on a CPU")
    return arguments


def _bench(arguments: argparse.Namespace) -> Bench:
    sizes = SMOKE if arguments.smoke else Sizes()
    return Bench(
        sizes=sizes,
        device="cpu" if arguments.smoke else "cuda",
        dataset=data.load(arguments.dataset) if arguments.dataset else made_images(sizes),
        ways=tuple(way for way in arguments.ways if not (arguments.smoke and way == "compile")),
        precision_epochs=2 if arguments.smoke else arguments.precision_epochs,
    )


def _measured(name: str, arguments: argparse.Namespace, left: float) -> Found:
    """What a section found, as far as it came within its limit and the time that is left."""
    limit = min(left, LIMITS[name] * (3 if "compile" in arguments.ways else 1))
    if limit <= 0:
        return {"error": "no time was left"}
    kept = arguments.out.with_suffix(f".{name}.json")
    kept.unlink(missing_ok=True)
    ended = ""
    if arguments.here:
        _keep_section(name, arguments, kept)
    else:
        fresh = multiprocessing.get_context("spawn")
        process = fresh.Process(target=_keep_section, args=(name, arguments, kept), daemon=True)
        process.start()
        process.join(limit)
        if process.is_alive():
            ended = f"ended after {limit:.0f} s"
            process.kill()
            process.join()
        elif process.exitcode:
            ended = f"the process ended with {process.exitcode}"
    found: Found = json.loads(kept.read_text()) if kept.is_file() else {}
    kept.unlink(missing_ok=True)
    return {**found, "error": ended} if ended else found


def _keep_section(name: str, arguments: argparse.Namespace, kept: Path) -> None:
    found: Found = {}
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        for found in _FUNCTIONS[name](_bench(arguments)):
            write_whole(kept, json.dumps(found))
    except Exception as error:  # the other sections are still worth their time
        where = traceback.format_exc().splitlines()[-12:]
        write_whole(kept, json.dumps({**found, "error": f"{type(error).__name__}: {error}", "where": where}))


def _tried(measure: Callable[[], Found]) -> Found:
    """A row, or why there is none; the other rows are still worth their time."""
    try:
        return measure()
    except Exception as error:  # such as a device without room for more
        return {"error": f"{type(error).__name__}: {error}", "where": traceback.format_exc().splitlines()[-6:]}


def made_images(sizes: Sizes) -> data.Dataset:
    """Ten classes of noisy images around a coarse pattern each, in the number and shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 4, 4, 3)).repeat(sizes.side // 4, axis=1).repeat(sizes.side // 4, axis=2)

    def split(per_class: int) -> data.Split:
        targets = np.arange(10).repeat(per_class)
        noise = rng.integers(0, 256, (len(targets), sizes.side, sizes.side, 3), dtype=np.uint8)
        images = np.empty_like(noise)
        for first in range(0, len(targets), 5000):
            part = slice(first, first + 5000)
            images[part] = (0.15 * patterns[targets[part]] + 0.85 * noise[part]).astype(np.uint8)
        return data.Split(images, targets)

    names = tuple(f"pattern {number}" for number in range(10))
    return data.Dataset("made", split(sizes.n_max), split(sizes.test // 10), 10, names)


def made_texts() -> data.Dataset:
    """Two classes of short texts, each with a word of its class somewhere in it."""
    rng = np.random.default_rng(0)

    def split(per_class: int) -> data.Split:
        targets = np.arange(2).repeat(per_class)
        lengths = rng.integers(4, 30, len(targets))
        texts = [
            " ".join(rng.permutation([("bad", "good")[label], *rng.choice(["film", "plot", "scene", "actor"], length)]))
            for label, length in zip(targets, lengths, strict=True)
        ]
        return data.Split(texts, targets)

    return data.Dataset("texts", split(300), split(100), 2, ("negative", "positive"))


def device_section(bench: Bench) -> Iterator[Found]:
    """What is measured on."""
    found = {
        "device": training.describe_device(bench.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": available_cores(),
    }
    if bench.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
        }
    yield found


def equality_section(bench: Bench) -> Iterator[Found]:
    """Losses and gradients on the device as on the CPU; recorded steps as plain ones, in float32 without shortcuts."""
    config, counts = bench.config(epochs=4), np.array([50, 20, 5, 1])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(256, 4, generator=generator).tanh()
    targets = torch.randint(4, (256,), generator=generator)
    worst = {}
    weighted = config.changed(weighting="effective_number", beta=0.9)  # a method keeps the beta that it reads
    for method in recipes.METHODS:
        values = []
        for device in ("cpu", bench.device):
            loss = build.build_loss(recipes.method_config(method, weighted), counts, device)(3)
            leaf = logits.clone().to(device).requires_grad_()
            value = loss(leaf, targets.to(device))
            value.backward()
            values.append(torch.cat([value.detach().reshape(1), leaf.grad.flatten()]).cpu())  # type: ignore[union-attr]
        worst[method] = float((values[1] - values[0]).norm() / values[0].norm())
    largest = max(worst.values())
    rows = [target("losses and gradients, CPU against device, largest relative difference", largest, 1e-5, "<=")]
    found: Found = {"loss_difference": worst, "targets": rows}
    yield found
    texts = recipes.preset(
        "imdb-paper", "ERM", dataset="texts", tokens=30, epochs=6, device=bench.device, precision="float32"
    )
    # A low rate: at the papers' the first hundred steps, without a warm-up, multiply the rounding of a fused update.
    images = bench.config(epochs=6, precision="float32", learning_rate=0.01)
    for name, job, dataset in (
        ("images", images, bench.dataset),
        ("texts", texts.changed(model="lstm64"), made_texts()),
    ):
        losses = found[name] = {}
        for way in bench.ways:
            losses[way] = _tried(partial(_training_loss, job, dataset, way))
            if "error" not in losses[way] and "error" not in losses.get("plain", {"error": ""}):
                one, other = (np.array(losses[each]["training_loss"]) for each in ("plain", way))
                losses[way]["relative_drift_per_epoch"] = (np.abs(other - one) / one).tolist()
            if way != "plain" and "relative_drift_per_epoch" in losses[way]:
                what = f"first epoch of {name}, {way} against plain steps in float32, relative difference"
                rows.append(target(what, losses[way]["relative_drift_per_epoch"][0], 1e-3, "<="))
            yield found


def _training_loss(config: recipes.RunConfig, dataset: data.Dataset, way: str) -> Found:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        return {"training_loss": recipes.run(config, dataset=dataset, execution=way).curves["train_loss"]}


def floors_section(bench: Bench) -> Iterator[Found]:
    """What the device can do, and the least time of both kinds of steps."""
    ceilings = _ceilings(bench)
    found = {
        "teraflops": round(ceilings.flops / 1e12, 2),
        "terabytes_per_second": round(ceilings.bytes / 1e12, 4),
        "supervised": _floor(bench, _network(bench), bench.sizes.batch, ceilings),
        "fixmatch": _floor(bench, _wide(bench), 15 * bench.sizes.labelled, ceilings),
    }
    yield found


def _ceilings(bench: Bench) -> Ceilings:
    return measure_ceilings(bench.device, size=bench.sizes.matrix, gigabytes=bench.sizes.gigabytes)


def _network(bench: Bench) -> torch.nn.Module:
    return models.CifarResNet(int(bench.sizes.model.removeprefix("resnet")), 10)


def _wide(bench: Bench) -> torch.nn.Module:
    return models.WideResNet(*bench.sizes.wide, 10)


def _floor(bench: Bench, network: torch.nn.Module, batch: int, ceilings: Ceilings) -> Found:
    layers = count(network, (batch, 3, bench.sizes.side, bench.sizes.side))
    times = floor_seconds(layers, ceilings)
    return {
        "gigaflops": sum(layer.flops for layer in layers) / 1e9,
        "gigabytes": sum(layer.bytes for layer in layers) / 1e9,
        **{f"{name}_ms": 1000 * value for name, value in times.items()},
        "heaviest_layers": [asdict(layer) for layer in sorted(layers, key=lambda layer: -layer.bytes)[:5]],
    }


def steps_section(bench: Bench) -> Iterator[Found]:
    """Time of one supervised step in each way."""
    found: Found = {"floor_ms": _floor(bench, _network(bench), bench.sizes.batch, _ceilings(bench))["floor_ms"]}
    found["ways"] = {}
    for way in bench.ways:
        found["ways"][way] = _tried(partial(_supervised_row, bench, way, found["floor_ms"]))
        yield found


def trial_section(bench: Bench) -> Iterator[Found]:
    """As `steps`, with algorithms that cuDNN chooses by trial: in a process that has not yet chosen any by rule."""
    torch.backends.cudnn.benchmark = True
    try:
        yield from steps_section(bench)
    finally:
        torch.backends.cudnn.benchmark = False


def _supervised_row(bench: Bench, way: str, floor: float) -> Found:
    started = time.perf_counter()
    stamps = train_stamps((bench.config(), bench.sizes.epochs, way), dataset=bench.dataset)
    return _step_row(stamps, _steps_per_epoch(bench), floor, time.perf_counter() - started)


def _step_row(stamps: list[float], steps: int, floor: float, seconds: float) -> dict[str, float]:
    durations = [second - first for first, second in itertools.pairwise(stamps)]
    settled = durations[len(durations) // 2 :]  # the first epochs warm up and record
    step = 1000 * statistics.median(settled) / steps
    return {
        "step_ms": step,
        "spread_ms": 1000 * (max(settled) - min(settled)) / steps,
        "share_of_floor": floor / step,
        "first_epoch_s": durations[0],
        "warm_up_s": max(0.0, seconds - len(durations) * statistics.median(settled)),
    }


def train_stamps(
    job: tuple[recipes.RunConfig, int, str], *, dataset: data.Dataset, meet: Callable[[], object] | None = None
) -> list[float]:
    """Train without evaluation, and return when each epoch began; the host has waited for the device by then.

    Trainings that are timed side by side wait for each other once they are warm, by calling `meet`.
    """
    config, epochs, way = job
    problem = build.build_problem(config, config.device, dataset)
    model = build.build_model(config, problem.input_shape, len(problem.class_counts))
    model = model.to(memory_format=torch.channels_last)
    stamps: list[float] = []

    def rate(epoch: int) -> float:
        if meet is not None and epoch == WARM:
            meet()
        stamps.append(time.time())
        return 0.01

    training.fit(
        model,
        problem.train,
        problem.train_targets,
        loss_at=build.build_loss(config, problem.class_counts, config.device),
        learning_rate_at=rate,
        epochs=epochs,
        rng=torch.Generator(config.device).manual_seed(config.seed),
        batch_size=config.batch_size,
        augment=problem.augment,
        parameters=models.parameter_groups(model, config.weight_decay),
        fabric=training.make_fabric(config.device, config.precision),
        execution=way,
    )
    return [*stamps[1:], time.time()]  # the first call asked for the rate that the optimiser is made with


def _steps_per_epoch(bench: Bench) -> int:
    samples = int(recipes.draw_subset(bench.config(), bench.dataset).class_counts.sum())
    return -(-samples // bench.sizes.batch)


def run_section(bench: Bench) -> Iterator[Found]:
    """A full run at ratio 100, evaluated after every epoch, in each recorded way; everything is warm."""
    found: Found = {"ways": {}}
    for way in [way for way in bench.ways if way != "plain"]:
        row = found["ways"][way] = _tried(partial(_full_run, bench, way))
        if "error" not in row:
            what = f"full run, {way}, seconds after warm-up, evaluation included"
            found.setdefault("targets", []).append(target(what, row["seconds"], 30, "<="))
        yield found
    if not found["ways"]:
        raise ValueError("`ways` must have one besides 'plain'.")


def _full_run(bench: Bench, way: str) -> Found:
    config = bench.config(epochs=bench.sizes.run_epochs)
    # Warm: libraries are loaded, kernels compiled. The graphs of a run are its own, and part of its time.
    recipes.run(bench.config(epochs=1), dataset=bench.dataset, execution=way)
    result = recipes.run(config, dataset=bench.dataset, execution=way)
    return {
        "seconds": result.seconds,
        "steps": config.epochs * _steps_per_epoch(bench),
        "accuracy_last": result.accuracy_last,
        "evaluations": len(result.curves["evaluated"]),
    }


def together_section(bench: Bench) -> Iterator[Found]:
    """Steps per second of several trainings at once, over the time in which all of them train."""
    way = "graph" if "graph" in bench.ways else bench.ways[-1]
    rows: Found = {}
    found: Found = {"way": way, "rows": rows}
    for number in bench.sizes.at_once:
        rows[f"{number} threads"] = _tried(partial(_throughput, bench, way, number))
        yield found
    speeds = {name: row["steps_per_second"] for name, row in rows.items() if "steps_per_second" in row}
    single = speeds.get("1 threads")
    if single is None:
        raise ValueError(f"no training finished alone, so nothing can be compared with one: {rows}.")
    best = found["best"] = max(speeds, key=speeds.__getitem__)
    found["targets"] = [target(f"throughput of {best} / of one", speeds[best] / single, 4, ">=")]
    yield found


def _throughput(bench: Bench, way: str, number: int) -> Found:
    jobs = [(bench.config(seed=seed), WARM + bench.sizes.epochs, way) for seed in range(number)]
    stamps = _at_once(jobs, bench.dataset)
    begin, end = max(one[WARM] for one in stamps), min(one[-1] for one in stamps)
    done = sum(_fraction_of_epochs(one, begin, end) for one in stamps)
    return {"steps_per_second": _steps_per_epoch(bench) * done / (end - begin)}


def _at_once(jobs: list, dataset: data.Dataset) -> list[list[float]]:
    """In threads, each on a stream of its own; processes would share the device by taking turns."""
    barrier = threading.Barrier(len(jobs), timeout=MEETING)
    with ThreadPoolExecutor(len(jobs)) as threads:
        started = [threads.submit(_meeting, job, dataset=dataset, barrier=barrier) for job in jobs]
    errors = [error for error in (each.exception() for each in started) if error is not None]
    # The trainings that were left waiting say nothing of the cause.
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [each.result() for each in started]


def _meeting(job: Any, *, dataset: data.Dataset, barrier: Any) -> list[float]:
    try:
        return train_stamps(job, dataset=dataset, meet=barrier.wait)
    except BaseException:
        barrier.abort()  # the others would wait for this one
        raise


def _fraction_of_epochs(stamps: list[float], begin: float, end: float) -> float:
    """Epochs done between two times, parts of epochs included."""
    return sum(
        max(0.0, min(second, end) - max(first, begin)) / (second - first)
        for first, second in itertools.pairwise(stamps)
    )


def fixmatch_section(bench: Bench) -> Iterator[Found]:
    """Time of one FixMatch step with all its views, average and alignment, against the floor of its network alone."""
    floor = _floor(bench, _wide(bench), 15 * bench.sizes.labelled, _ceilings(bench))["floor_ms"]
    found: Found = {"floor_ms": floor, "ways": {}}
    for way in bench.ways:
        row = found["ways"][way] = _tried(partial(_fixmatch_row, bench, way, floor))
        if "error" not in row:
            best = max(each.get("share_of_floor", 0.0) for each in found["ways"].values())
            found["targets"] = [target("FixMatch step, share of the floor", best, 0.4, ">=")]
        yield found
    found["views_alone_plain_ms"] = _views_alone(bench)
    yield found


def _fixmatch_row(bench: Bench, way: str, floor: float) -> Found:
    started = time.perf_counter()
    return _step_row(_fixmatch_stamps(bench, way), bench.sizes.steps, floor, time.perf_counter() - started)


def _pool(bench: Bench) -> torch.Tensor:
    inputs: Any = bench.dataset.train.inputs
    images = torch.from_numpy(inputs[: 20 * 15 * bench.sizes.labelled])
    return images.to(bench.device).permute(0, 3, 1, 2)


def _fixmatch_stamps(bench: Bench, way: str) -> list[float]:
    sizes, pool = bench.sizes, _pool(bench)
    stamps: list[float] = []

    def rate(step: int) -> float:
        if step % sizes.steps == 0:
            stamps.append(time.time())
        return 0.03

    model = _wide(bench).to(bench.device, memory_format=torch.channels_last)
    positions = torch.arange(sizes.labelled, device=bench.device)
    stream = training.Stream(
        labelled=positions,
        labels=positions % 10,
        unlabelled=torch.arange(len(pool), device=bench.device),
        rng=torch.Generator(bench.device).manual_seed(0),
    )
    training.fit_semi(
        model,
        pool,
        stream,
        rule=training.fixmatch(0.95),
        weak=strong_augment.weak_view(),
        strong=strong_augment.strong_view(),
        learning_rate_at=rate,
        epochs=sizes.epochs,
        steps_per_epoch=sizes.steps,
        num_classes=10,
        batch_size=sizes.labelled,
        alignment=torch.full((10,), 0.1),
        parameters=decay_without_norm(model, 5e-4),
        fabric=training.make_fabric(bench.device, bench.precision),
        execution=way,
    )
    return [*stamps[1:], time.time()]


def _views_alone(bench: Bench) -> float:
    """Milliseconds of the views of a step, run by the host."""
    pool, rng = _pool(bench), torch.Generator(bench.device).manual_seed(0)
    batch = pool[: 7 * bench.sizes.labelled]
    weak, strong = strong_augment.weak_view(), strong_augment.strong_view()
    return 1000 * median_seconds(lambda: (weak(batch, rng), strong(batch, rng)), bench.device, repeats=10)


def precision_section(bench: Bench) -> Iterator[Found]:
    """Accuracy of bfloat16 against float32 training in paired seeds."""
    way = "graph" if "graph" in bench.ways else bench.ways[-1]
    rows: list[dict[str, float]] = []
    found: Found = {"epochs": bench.precision_epochs, "rows": rows}
    for seed in range(bench.sizes.seeds):
        rows.append({precision: _accuracy(bench, seed, precision, way) for precision in ("float32", "bfloat16")})
        if seed:
            found |= _interval(rows)
        yield found


def _accuracy(bench: Bench, seed: int, precision: str, way: str) -> float:
    config = bench.config(seed=seed, precision=precision, epochs=bench.precision_epochs, evaluate_every=1000)
    # Convolutions in float32 would be rounded to TF32 otherwise.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return float(recipes.run(config, dataset=bench.dataset, execution=way).accuracy_last)


def _interval(rows: list[dict[str, float]]) -> Found:
    from scipy import stats

    differences = 100 * np.array([row["bfloat16"] - row["float32"] for row in rows])
    half = stats.t.ppf(0.95, len(rows) - 1) * differences.std(ddof=1) / np.sqrt(len(rows))
    low, high = float(differences.mean() - half), float(differences.mean() + half)
    outside = max(abs(low), abs(high))
    return {
        "mean_difference_points": float(differences.mean()),
        "interval_90": [low, high],
        "targets": [target("bfloat16 - float32, farther end of the 90 % interval, points", outside, 1.0, "<=")],
    }


def target(what: str, value: float, limit: float, kind: str) -> Found:
    """A measured value against what it has to reach ("<=" or ">=")."""
    met = value <= limit if kind == "<=" else value >= limit
    return {"what": what, "value": float(f"{value:.4g}"), "target": f"{kind} {limit:g}", "met": bool(met)}


_FUNCTIONS: dict[str, Callable[[Bench], Iterator[Found]]] = {
    "device": device_section,
    "equality": equality_section,
    "floors": floors_section,
    "steps": steps_section,
    "trial": trial_section,
    "run": run_section,
    "together": together_section,
    "fixmatch": fixmatch_section,
    "precision": precision_section,
}


if __name__ == "__main__":
    sys.exit(main())
