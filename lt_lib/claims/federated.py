"""Label skew between clients: federated averaging of a linear classifier on the embedded digits. Row 63."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.rules import positive_effect

Array = npt.NDArray[np.float64]
Deal = Callable[[npt.NDArray[np.int64], int, int, np.random.Generator], npt.NDArray[np.int64]]
NUM_CLIENTS = 10
PER_CLASS = 60
RATE = 0.2  # below 2 over the largest curvature (0.38 for all samples): above it every step overshoots
# Shards per client; 0 means that the samples are dealt like cards, so that every client sees every class.
SETTINGS = {"all classes (IID)": 0, "two shards": 2, "one class": 1}


def deal_samples(
    targets: npt.NDArray[np.int64], num_clients: int, shards: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Divide samples among clients.

    Args:
        targets: class indices (samples,); samples must be a multiple of clients times shards.
        num_clients: clients.
        shards: 0 deals the samples at random. Otherwise the samples are sorted by class and cut into
            `num_clients * shards` pieces of equal size, and every client gets `shards` of them at random.
        rng: source of randomness.

    Returns:
        Indices (clients, samples per client).

    Example:
        >>> deal_samples(np.array([0, 1, 0, 1]), 2, 1, np.random.default_rng(0)).tolist()
        [[0, 2], [1, 3]]
    """
    if shards == 0:
        return rng.permutation(len(targets)).reshape(num_clients, -1)
    pieces = np.argsort(targets, kind="stable").reshape(num_clients * shards, -1)
    return pieces[rng.permutation(len(pieces))].reshape(num_clients, -1)


def federated_averaging(
    inputs: Array, targets: npt.NDArray[np.int64], test: Array, *, rounds: int, local_steps: int, rate: float
) -> tuple[npt.NDArray[np.int64], Array]:
    r"""Federated averaging of softmax regression: clients start from the server's weights, descend, and are averaged.

    .. math:: W^{(r+1)} = \frac1K \sum_{k=1}^{K} \mathrm{GD}_{\text{local}}(W^{(r)};\, D_k)

    Args:
        inputs: (repetitions, clients, samples, features).
        targets: (repetitions, clients, samples).
        test: (test samples, features).
        rounds: averages taken, >= 1.
        local_steps: full-batch gradient steps of a client between two averages, >= 1.
        rate: learning rate, > 0.

    Returns:
        Predictions on the test set after every round (repetitions, rounds, test samples), and the client drift: mean
        distance of the clients from their average (repetitions, rounds).
    """
    num_classes = int(targets.max()) + 1
    x, x_test = (np.concatenate([part, np.ones((*part.shape[:-1], 1))], axis=-1) for part in (inputs, test))
    transposed, truth = np.swapaxes(x, -1, -2) / x.shape[-2], np.eye(num_classes)[targets]
    server = np.zeros((len(x), x.shape[-1], num_classes))
    predicted, drift = [], []
    for _ in range(rounds):
        clients = np.repeat(server[:, None], x.shape[1], axis=1)
        for _ in range(local_steps):
            scores = x @ clients
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            clients -= rate * transposed @ (scores / scores.sum(axis=-1, keepdims=True) - truth)
        server = clients.mean(axis=1)
        distance = np.sqrt(((clients - server[:, None]) ** 2).sum(axis=(-1, -2)))
        predicted.append((x_test @ server).argmax(axis=-1))
        drift.append(distance.mean(axis=1))
    return np.stack(predicted, axis=1), np.stack(drift, axis=1)


def measure_federated(
    _profile: str,
    _rng: np.random.Generator,
    *,
    deal: Deal = deal_samples,
    num_seeds: int = 10,
    rounds: int = 15,
    local_steps: int = 10,
) -> dict[str, Any]:
    """Test accuracy and drift per round, with the same digits divided among ten clients in three ways.

    Args:
        deal: how the samples are divided. Replaced in tests by one that ignores the classes.
        num_seeds: draws and divisions, paired between the settings.
        rounds: of averaging.
        local_steps: between two rounds.

    Returns:
        By setting: "accuracy" and "drift", both (seeds, rounds), and "classes", the mean number per client.
    """
    from lt_lib import data

    digits = data.load("digits")
    inputs, test = (split.inputs.reshape(len(split), -1) / 255 for split in (digits.train, digits.test))  # type: ignore[union-attr]
    measured = {}
    for name, shards in SETTINGS.items():
        divided = []
        for seed in range(num_seeds):
            chosen = data.long_tail_indices(digits.train.targets, np.full(digits.num_classes, PER_CLASS), seed=seed)
            rng = np.random.default_rng([seed, shards])
            divided.append(chosen[deal(digits.train.targets[chosen], NUM_CLIENTS, shards, rng)])
        indices = np.stack(divided)
        targets = digits.train.targets[indices]
        predicted, drift = federated_averaging(
            inputs[indices], targets, test, rounds=rounds, local_steps=local_steps, rate=RATE
        )
        classes = np.mean([len(np.unique(client)) for client in targets.reshape(-1, targets.shape[-1])])
        accuracy = (predicted == digits.test.targets).mean(axis=-1)
        measured[name] = {"accuracy": accuracy, "drift": drift, "classes": float(classes)}
    return measured


def judge_federated(measured: dict[str, Any]) -> Judgement:
    """Row 63: after the last round, both skewed divisions must be worse than the random one."""
    (_, even), *skewed = measured.items()
    return worst(
        positive_effect(
            100 * (even["accuracy"][:, -1] - part["accuracy"][:, -1]), unit=f"points of accuracy (IID - {name})"
        )
        for name, part in skewed
    )


CHECKS: tuple[Check, ...] = (
    Check(
        Claim(
            63,
            "S2 L30",
            "Q",
            "Federated clients that hold one or two classes learn a worse model than clients that see all",
            "accuracy after the last round: IID - skewed > 0, one-sided 95 % t",
        ),
        measure_federated,
        judge_federated,
    ),
)
