"""Trains with the number of processes in the first argument and saves the weights; run by test_parallel."""

import sys

import torch
import torch.nn.functional as F

from lt_lib.models import MLP, seeded
from lt_lib.training import NonFiniteLossError, fit, make_fabric


def noisy(batch, rng):
    return batch + 0.1 * torch.randn(batch.shape, generator=rng, dtype=batch.dtype)


def main(processes, target):
    rng = torch.Generator().manual_seed(0)
    # 17 samples in batches of 8: the last batch has one sample, so that one of two processes has none.
    inputs, targets = torch.randn(17, 4, generator=rng, dtype=torch.float64), torch.arange(17) % 3
    model = seeded(lambda: MLP(4, 3, hidden=5), 0)
    fabric = make_fabric("cpu", "float64", num_devices=processes)
    fabric.launch()
    options = {
        "learning_rate_at": lambda _epoch: 0.1,
        "rng": torch.Generator().manual_seed(1),
        "batch_size": 8,
        "fabric": fabric,
    }
    history = fit(
        model, inputs, targets, loss_at=lambda _epoch: F.cross_entropy, epochs=3, augment=noisy,
        evaluation={"test": (inputs, targets)}, checkpoint=f"{target}.pt", **options,
    )  # fmt: skip

    def broken(logits, labels):
        # Only the last step of the epoch, and only for the process that holds the sample.
        return F.cross_entropy(logits, labels) * (float("nan") if len(labels) == 1 and fabric.is_global_zero else 1)

    try:
        fit(model, inputs, targets, loss_at=lambda _epoch: broken, epochs=2, **options)
        stopped = None
    except NonFiniteLossError as error:
        stopped = (error.epoch, error.step, error.indices)
    state = torch.load(f"{target}.pt")["model"]
    torch.save((state, history.train_loss, history.accuracy, stopped), f"{target}.{fabric.global_rank}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
