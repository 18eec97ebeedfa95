"""Speed as ratios within one run: `make bench`.

    python tests/benchmarks/run.py [losses] [covering] [training] [semi] [claims] [batch] [notebooks]

Each row compares two ways of doing the same work on the same machine, in turns. The report says which targets were met;
it is printed, and written to runs/bench.json. A busy machine distorts it: run it alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from balanced_loss import Loss as BalancedLoss
from batch_rows import bench_batch
from PIL import Image
from torch import Tensor, nn

from lt_lib import counts, losses, models, recipes, training
from lt_lib.claims import ledger
from lt_lib.data import augment, strong_augment
from lt_lib.theory import effective_number

BATCH = 128
SECTIONS = ("losses", "covering", "training", "semi", "claims", "batch", "notebooks")


def main() -> int:
    """Run the chosen sections, print and store the report; exit status 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; default: all")
    chosen = parser.parse_args().sections or SECTIONS
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        parser.error(f"unknown section {', '.join(unknown)}; choose from {', '.join(SECTIONS)}")
    print(f"{training.describe_device('cpu')}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows: list[dict] = []
    functions = (bench_losses, bench_covering, bench_training, bench_semi, bench_claims, bench_batch, bench_notebooks)
    sections = dict(zip(SECTIONS, functions, strict=True))
    for name in chosen:
        for row in sections[name]():
            rows.append(row)
            verdict = "met" if row["met"] else "MISSED"
            print(f"{verdict:<7} {row['what']:<62} {row['value']:8.2f}  target {row['target']}", flush=True)
    target = Path("runs/bench.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"device": training.describe_device("cpu"), "rows": rows}, indent=1) + "\n")
    return 0 if all(row["met"] for row in rows) else 1


def ratio(ours: Callable[[], object], theirs: Callable[[], object], repetitions: int = 40) -> float:
    """Median over repetitions of time(ours) / time(theirs), measured alternately so that drifts cancel."""
    for _ in range(3):
        ours()
        theirs()
    quotients = []
    for _ in range(repetitions):
        first = time.perf_counter()
        ours()
        second = time.perf_counter()
        theirs()
        quotients.append((second - first) / (time.perf_counter() - second))
    return statistics.median(quotients)


def at_most(what: str, value: float, limit: float) -> dict:
    """A row whose value must not exceed `limit`."""
    return {"what": what, "value": value, "target": f"<= {limit:g}", "met": value <= limit}


def at_least(what: str, value: float, limit: float) -> dict:
    """A row whose value must reach `limit`."""
    return {"what": what, "value": value, "target": f">= {limit:g}", "met": value >= limit}


def bench_losses() -> list[dict]:
    """Forward and backward of every loss against PyTorch's own, and against the `balanced-loss` package."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for batch, classes in ((4096, 10), (1024, 1000)):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(batch, classes, generator=generator)
        cosines = logits.tanh()
        targets = torch.randint(classes, (batch,), generator=generator)
        one_hot = F.one_hot(targets, classes).float()
        class_counts = counts.exponential_counts(5000, classes, 100)
        margins = torch.as_tensor(counts.ldam_margins(class_counts), dtype=torch.float32)
        prior = torch.as_tensor(counts.class_prior(class_counts), dtype=torch.float32)
        softmax = _step(logits, lambda z, y=targets: F.cross_entropy(z, y))
        sigmoid = _step(logits, lambda z, y=one_hot: F.binary_cross_entropy_with_logits(z, y))
        cases = [
            ("softmax", logits, lambda z, y=targets: losses.softmax_loss(z, y), softmax, 1.5),
            ("LDAM", cosines, lambda z, y=targets, m=margins: losses.ldam_loss(z, y, m), softmax, 1.5),
            ("logit-adjusted", logits, lambda z, y=targets, p=prior: losses.logit_adjusted_loss(z, y, p), softmax, 1.5),
            ("softmax-focal", logits, lambda z, y=targets: losses.softmax_focal_loss(z, y, gamma=1.0), softmax, 1.5),
            ("sigmoid", logits, lambda z, y=targets: losses.sigmoid_loss(z, y), sigmoid, 1.5),
            ("sigmoid-focal", logits, lambda z, y=targets: losses.focal_loss(z, y, gamma=1.0), sigmoid, 3.5),
            ("hinge", logits, lambda z, y=targets, m=margins: losses.hinge_loss(z, y, m), softmax, 3.5),
        ]
        for name, inputs, loss, reference, limit in cases:
            against = "F.cross_entropy" if reference is softmax else "F.binary_cross_entropy_with_logits"
            value = ratio(_step(inputs, loss), reference)
            rows.append(at_most(f"{name} {batch}x{classes} / {against}", value, limit))
        samples = [int(count) for count in class_counts]
        for name, ours, package in (
            ("softmax", losses.ClassBalancedSoftmaxLoss(class_counts, 0.999), "cross_entropy"),
            ("sigmoid", losses.ClassBalancedSigmoidLoss(class_counts, 0.999), "binary_cross_entropy"),
            ("sigmoid-focal", losses.ClassBalancedFocalLoss(class_counts, 0.999, gamma=2.0), "focal_loss"),
        ):
            theirs = BalancedLoss(package, samples_per_class=samples, beta=0.999, fl_gamma=2, class_balanced=True)
            value = ratio(*(_step(logits, lambda z, y=targets, f=loss: f(z, y)) for loss in (ours, theirs)))
            rows.append(at_most(f"class-balanced {name} {batch}x{classes} / balanced-loss", value, 1.0))
    torch.set_num_threads(threads)
    return rows


def _step(values: Tensor, loss: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    leaf = values.clone().requires_grad_()

    def step() -> None:
        leaf.grad = None
        loss(leaf).backward()

    return step


def bench_covering() -> list[dict]:
    """The covering simulation of notebook 030 against the naive loop that it is shown beside."""
    boxes, samples, repetitions = 1000, 500, 200
    started = time.perf_counter()
    effective_number.occupancy_naive(boxes, samples, repetitions, np.random.default_rng(0))
    naive = time.perf_counter() - started
    timings = []
    for _ in range(5):
        started = time.perf_counter()
        effective_number.occupancy(boxes, samples, repetitions, np.random.default_rng(0))
        timings.append(time.perf_counter() - started)
    return [at_least("covering: naive loop / vectorised", naive / min(timings), 50)]


def bench_training() -> list[dict]:
    """Images per second of ResNet-32 at batch 128 against a plain float32 loop with a per-sample PIL loader."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6 * BATCH, 32, 32, 3), dtype=np.uint8)
    targets = rng.integers(0, 10, len(images))
    plain = _plain_loop(images, targets)
    ours = {precision: _our_loop(images, targets, precision) for precision in ("float32", "bfloat16")}
    native = training.computes_bfloat16("cpu")
    chosen = "bfloat16" if native else "float32"
    note = "bfloat16" if native else "float32: this CPU has no bfloat16 arithmetic"
    return [
        at_least("training, float32: ours / plain loop (images per second)", ours["float32"] / plain, 1.0),
        at_least(f"training, default precision ({note}): ours / plain", ours[chosen] / plain, 3.0),
    ]


def _plain_loop(images: np.ndarray, targets: np.ndarray) -> float:
    """What a first PyTorch script does: PIL transforms per sample, NCHW float32, loss read in every step."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )

    class Samples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return transform(Image.fromarray(images[index])), int(targets[index])

    loader = torch.utils.data.DataLoader(Samples(), batch_size=BATCH, shuffle=True)
    model: nn.Module = models.CifarResNet(32, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
    speeds = []
    for _ in range(3):
        started = time.perf_counter()
        for batch, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        speeds.append(len(images) / (time.perf_counter() - started))
    return max(speeds)


def _our_loop(images: np.ndarray, targets: np.ndarray, precision: str) -> float:
    if precision == "bfloat16" and not training.computes_bfloat16("cpu"):
        return float("nan")
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    mean, deviation = augment.channel_statistics(images)
    model = models.CifarResNet(32, 10).to(memory_format=torch.channels_last)

    def prepare(batch: Tensor, rng: torch.Generator) -> Tensor:
        return augment.normalise(augment.pad_crop_flip(batch, rng), mean, deviation)

    def run(epochs: int) -> float:
        history = training.fit(
            model,
            inputs,
            torch.from_numpy(targets),
            loss_at=lambda _epoch: losses.softmax_loss,
            learning_rate_at=lambda _epoch: 0.01,
            epochs=epochs,
            rng=torch.Generator().manual_seed(0),
            batch_size=BATCH,
            augment=prepare,
            fabric=training.make_fabric("cpu", precision),
        )
        return len(images) * epochs / history.seconds

    return max(run(1) for _ in range(4))


def bench_semi() -> list[dict]:
    """A FixMatch step with its augmentation against the network alone, and toys stacked against single runs."""
    rng, labelled, unlabelled = torch.Generator().manual_seed(0), 8, 56
    images = torch.randint(256, (labelled + unlabelled, 3, 32, 32), dtype=torch.uint8, generator=rng)
    targets = torch.randint(10, (labelled + 2 * unlabelled,), generator=rng)
    model = models.WideResNet().to(memory_format=torch.channels_last)
    weak, strong = strong_augment.weak_view(), strong_augment.strong_view()

    def views() -> Tensor:
        return torch.cat([weak(images, rng), strong(images[labelled:], rng)])

    def network(batch: Tensor) -> None:
        model.zero_grad()
        F.cross_entropy(model(batch), targets).backward()

    fixed = views()
    step = ratio(lambda: network(views()), lambda: network(fixed), repetitions=5)
    configs = [
        recipes.semi_preset("gaussian-quick", "crest", seed=seed, split_seed=seed, subset_seed=seed)
        for seed in range(20)
    ]
    started = time.perf_counter()
    recipes.run_semi_many(configs)
    together = time.perf_counter() - started
    started = time.perf_counter()
    for config in configs:
        recipes.run_semi_many([config])
    alone = time.perf_counter() - started
    return [
        at_most("FixMatch step, WRN-28-2: with augmentation / network alone", step, 1.15),
        at_least("20 toy self-trainings: one by one / stacked", alone / together, 1.5),
    ]


def bench_claims() -> list[dict]:
    """Wall time of the theory and definition rows of the ledger, and of the whole ledger, at the quick profile."""
    rows = []
    for what, kinds, minutes in (("T and D rows", {"T", "D"}, 1.0), ("all rows", {"T", "D", "E", "Q", "O"}, 6.0)):
        chosen = [str(row.id) for row in ledger.ledger() if row.claim.kind in kinds]
        command = [sys.executable, "-m", "lt_lib", "claims", "--id", *chosen]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows.append(at_most(f"ledger, {what}, minutes", (time.perf_counter() - started) / 60, minutes))
    return rows


def bench_notebooks() -> list[dict]:
    """Wall time of `make figures` against its budget of five minutes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tools.notebooks", "figures"], check=True, stdout=subprocess.DEVNULL)
    return [at_most("make figures, minutes", (time.perf_counter() - started) / 60, 5.0)]


if __name__ == "__main__":
    sys.exit(main())
