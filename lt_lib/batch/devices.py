"""Which GPU each worker uses, by the names that GPUs keep wherever they are seen from."""

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence


def visible_gpus(environment: Mapping[str, str] | None = None, listing: str | None = None) -> list[str]:
    r"""UUIDs of the GPUs that this process may use.

    Args:
        environment: where `CUDA_VISIBLE_DEVICES` is looked up; the process's own if None. Numbers in it are
            translated; as CUDA does, the list ends at the first entry that names no GPU.
        listing: lines `index, uuid`; asked from `nvidia-smi` if None.

    Returns:
        UUIDs, empty without a GPU.

    Example:
        >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}, "0, GPU-aa\n1, GPU-bb")
        ['GPU-bb']
    """
    known = _listed(_ask() if listing is None else listing)
    chosen = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(known.values())
    found: list[str] = []
    for entry in (entry.strip() for entry in chosen.split(",")):
        if entry in known:
            found.append(known[entry])
            continue
        matches = [uuid for uuid in known.values() if entry and uuid.startswith(entry)]
        if entry.startswith("MIG-"):
            matches = [entry]  # a slice of a GPU, which the listing does not show
        if len(matches) != 1:
            break
        found.append(matches[0])
    return found


def place_workers(gpus: Sequence[str], per_run: float, workers: int | None, cores: int) -> tuple[list[str], str]:
    """The `CUDA_VISIBLE_DEVICES` of each worker.

    Args:
        gpus: UUIDs of the GPUs at hand.
        per_run: GPUs that one run occupies; below 1, several runs share one.
        workers: how many workers are asked for, None for as many as fit.
        cores: how many runs fit the processor, for runs without a GPU.

    Returns:
        One entry per worker, and a message if it is not what was asked for.
    """
    if per_run == 0:
        return [""] * (workers or cores), ""
    if not gpus:
        return [""] * (workers or 1), "No GPU is visible here: the runs use the CPU."
    if per_run < 1:
        sharing = int(1 / per_run + 1e-9)
        slots = [gpu for _ in range(sharing) for gpu in gpus]
    else:
        size = int(per_run)
        slots = [",".join(gpus[first : first + size]) for first in range(0, len(gpus) - size + 1, size)]
    if not slots:
        return [""] * (workers or 1), f"One run needs {per_run:g} GPUs, {len(gpus)} are visible: the runs use the CPU."
    if workers is not None and workers > len(slots):
        return slots, f"{workers} workers were asked for; the visible GPUs hold {len(slots)} runs at once."
    return slots[:workers], ""


def _ask() -> str:
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    return ""


def _listed(listing: str) -> dict[str, str]:
    pairs = [line.split(",") for line in listing.splitlines() if line.count(",") == 1]
    return {index.strip(): uuid.strip() for index, uuid in pairs}
