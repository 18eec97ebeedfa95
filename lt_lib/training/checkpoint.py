"""Checkpoints that are either whole or absent, and say what is wrong with them."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lt_lib._paths import whole_file


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another run."""


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Write `state` to `path` in one step: a reader sees the old file or the new one, never a part.

    Args:
        path: target file; its folder is created.
        state: tensors, numbers, strings and containers of them (what `torch.load(weights_only=True)` accepts).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        torch.save(state, file)


def load_checkpoint(path: str | os.PathLike, *, identity: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint and make sure that it belongs to this run.

    Args:
        path: file written by `save_checkpoint`.
        identity: what `state["identity"]` must be, for example a config hash.
        map_location: device for the tensors.

    Raises:
        CheckpointError: the file is damaged or not a checkpoint, or its identity differs.
        FileNotFoundError: there is no such file.
    """
    try:
        # PyTorch reads the numbers without comparing checksums, so a flipped bit would go unnoticed.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise CheckpointError(
            f"`path` must be a whole checkpoint, got a damaged or truncated file: {path} ({error}). "
            "Delete it to start this run again."
        ) from error
    found = state.get("identity") if isinstance(state, dict) else None
    if found != identity:
        raise CheckpointError(
            f"`identity` must be {identity!r}, got {found!r} in {path}: "
            "the checkpoint belongs to another configuration."
        )
    return state


def set_generator(rng: torch.Generator, state: torch.Tensor) -> None:
    """Continue a generator of random numbers from its state in a checkpoint.

    Raises:
        CheckpointError: the state is that of another type of device.
    """
    try:
        rng.set_state(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"a checkpoint must be continued on the type of device that it was written on, got one whose generator has "
            f"{len(state)} bytes for {rng.device.type!r} ({error})."
        ) from error
