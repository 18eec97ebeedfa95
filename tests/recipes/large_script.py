"""Trains on a tree of images in as many processes as the first argument says, in three ways; run by test_large."""

import sys
from pathlib import Path

import torch

from lt_lib.data.image_files import load_image_files
from lt_lib.data.streaming import ImageStream
from lt_lib.recipes.large import build_large_loss, run_large
from lt_lib.recipes.large_config import LargeConfig
from lt_lib.training import count_hits, fit_stream, make_fabric

WEIGHTED = {"weighting": "effective_number", "beta": 0.9, "normalization": "weights"}


def config(data_root, processes):
    return LargeConfig(
        data_root=str(data_root), profile="quick", depth=18, image_size=32, crop="shorter_side", epochs=3,
        batch_size=12, base_learning_rate=1.0, schedule="cosine", warmup=0.0, device="cpu", precision="float32",
        workers=0, num_devices=processes, **WEIGHTED, defer_until=0.5,
    )  # fmt: skip


def train_linear(processes, data_root, target):
    """Without batch normalisation, every cut of the batches gives the same weights."""
    fabric = make_fabric("cpu", "float64", num_devices=processes)
    fabric.launch()
    files = load_image_files("inaturalist", data_root)
    # The second stage of a deferred loss, whose divisor depends on the classes of the whole batch.
    loss_at = build_large_loss(LargeConfig(epochs=2, defer_until=0.5, **WEIGHTED), files.class_counts, "cpu")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, files.num_classes)).double()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    sharing = {"rank": fabric.global_rank, "processes": processes}
    held = ImageStream(files.test, size=8, crop="centre", batch_size=5, **sharing)
    settings = {"prepare": lambda images: images.double() / 255, "fabric": fabric}
    test_targets = torch.from_numpy(files.test.targets)
    history = fit_stream(
        model,
        ImageStream(files.train, size=8, crop="area", batch_size=7, **sharing),
        torch.from_numpy(files.train.targets),
        loss_at=loss_at,
        learning_rate_at=lambda progress: 0.02 * (1 + progress),
        epochs=2,
        num_classes=files.num_classes,
        micro_batch=2 if processes > 1 else 0,
        evaluation={"test": (held, test_targets)},
        **settings,
    )
    hits = count_hits(model, held, test_targets, files.num_classes, **settings)
    torch.save(
        (model.state_dict(), history.train_loss, [part.tolist() for part in hits]), f"{target}.{fabric.global_rank}"
    )


def main(processes, data_root, target):
    train_linear(processes, data_root, target / "linear")
    chosen = config(data_root, processes)
    whole = run_large(chosen, checkpoint=target / "whole" / "checkpoint.pt")
    state = target / "broken" / "checkpoint.pt"
    assert run_large(chosen, checkpoint=state, stop_after=2) is None
    assert len(torch.load(state)["history"]["train_loss"]) == 2
    resumed = run_large(chosen, checkpoint=state)
    first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    assert (whole is not None) == (resumed is not None) == first
    if first:
        whole.save(target / "whole")
        resumed.save(target / "broken")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
