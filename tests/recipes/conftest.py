import os
from pathlib import Path

import numpy as np
import pytest

from lt_lib.data import Dataset, Split
from lt_lib.recipes import build


def images(seed, per_class, side=8):
    """Grey squares whose brightness tells the class, with noise."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(3), per_class)
    pixels = 60 * targets[:, None, None, None] + rng.integers(0, 90, (len(targets), side, side, 1))
    return Split(pixels.astype(np.uint8), targets.astype(np.int64))


@pytest.fixture
def tiny():
    """Forty training images in each of three classes."""
    return Dataset("tiny", images(0, 40), images(1, 10), 3, ("a", "b", "c"))


@pytest.fixture
def uneven():
    """A class more than the others have, so that a hold-out can leave subsets of different sizes."""
    first, rest = images(0, 40), images(2, 50)
    keep = np.concatenate([np.arange(40), np.arange(50, 150)])
    assert len(first) == 120
    return Dataset("uneven", Split(rest.inputs[keep], rest.targets[keep]), images(1, 10), 3, ("a", "b", "c"))


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)

    def split(per_class):
        targets = np.repeat(np.arange(3), per_class)
        return Split((rng.normal(size=(len(targets), 5)) + targets[:, None]).astype(np.float32), targets)

    return Dataset("vectors", split(40), split(20), 3, ("a", "b", "c"))


@pytest.fixture
def texts():
    """Short reviews, each with a word of its class in front and another at its end."""
    rng = np.random.default_rng(0)

    def split(per_class):
        targets = np.repeat(np.arange(3), per_class)
        filler = [" ".join(rng.choice(["film", "plot", "scene", "actor"], rng.integers(1, 5))) for _ in targets]
        words = [f"{'abc'[label]}first {rest} {'abc'[label]}last" for label, rest in zip(targets, filler, strict=True)]
        return Split(words, targets.astype(np.int64))

    return Dataset("texts", split(40), split(10), 3, ("a", "b", "c"))


@pytest.fixture
def loaded(monkeypatch, tiny, uneven, vectors, texts):
    """Data sets by name, without files."""
    sets = {"tiny": tiny, "vectors": vectors, "uneven": uneven, "texts": texts}
    monkeypatch.setattr(build, "load_dataset", lambda config: sets[config.dataset])
    return sets


@pytest.fixture
def written_files(monkeypatch):
    """Names of the files that are put in place, in order, with that of their folder if it is `base`."""
    names, replace = [], os.replace

    def noted(source, target):
        path = Path(target)
        names.append(f"base/{path.name}" if path.parent.name == "base" else path.name)
        replace(source, target)

    monkeypatch.setattr("os.replace", noted)
    return names
