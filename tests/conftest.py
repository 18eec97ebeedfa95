"""What every test shares: a headless backend, one thread, no GPU, no progress bars, and seeded generators."""

import os

# Set before NumPy, torch or matplotlib are first imported, since each reads its variable once.
os.environ["MPLBACKEND"] = "agg"
os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is compared is arithmetic of the CPU; a test that pretends to have a GPU says so itself.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The same examples on every run and machine; a shared machine may be slow, so examples carry no deadline.
hypothesis.settings.register_profile("repository", derandomize=True, deadline=None, database=None, max_examples=50)
hypothesis.settings.load_profile("repository")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(autouse=True)
def isolated_outputs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes figures or results into the source tree, or finds data that happen to lie there."""
    folder = tmp_path_factory.mktemp("lt")
    monkeypatch.setenv("LT_OUT", str(folder / "out"))
    monkeypatch.setenv("LT_DATA", str(folder / "data"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)
