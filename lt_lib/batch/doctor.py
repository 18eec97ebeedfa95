"""Looks at everything that a batch needs, before a night is lost."""

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lt_lib._cores import available_cores
from lt_lib.batch.devices import visible_gpus
from lt_lib.batch.engines import AttemptProcess
from lt_lib.batch.identity import ID_LENGTH, digest_of, run_digest
from lt_lib.batch.kernels import socket_base, stale_socket_folders
from lt_lib.batch.place import Place

_NEEDED = ("ruamel.yaml", "papermill", "ipykernel", "psutil")
_OPTIONAL = {"distributed": "for --scheduler local or an address", "pyarrow": "to collect Parquet"}
_CELLS = ('out_dir: str = ""  # where results go\n', 'open(f"{out_dir}/result.json", "w").write("{}")\n')


def examine(place: Place | None = None) -> Iterator[tuple[str, bool, str]]:
    """Examine this machine, and a place if one is given.

    Yields:
        What was looked at, whether it is in order, and what was found.
    """
    for module in _NEEDED:
        yield module, _has(module), "installed" if _has(module) else "missing: pip install 'lt-lib[batch]'"
    for module, purpose in _OPTIONAL.items():
        yield module, True, "installed" if _has(module) else f"not installed, needed {purpose}"
    yield "processor", True, f"{available_cores()} cores"
    gpus = visible_gpus()
    yield "GPUs", True, ", ".join(gpus) or "none visible: runs that ask for one use the CPU"
    try:
        base, stale = socket_base(), len(stale_socket_folders())
        yield (
            "kernel sockets",
            True,
            f"in {base}" + (f", {stale} left behind, the next run removes them" if stale else ""),
        )
    except OSError as error:
        yield "kernel sockets", False, str(error)
    if place is not None:
        yield from _examine_place(place)
    if all(map(_has, _NEEDED)):
        report = _trial()
        yield "a trial run", report["kind"] == "done", f"{report['kind']} {report.get('message', '')}".strip()


def _examine_place(place: Place) -> Iterator[tuple[str, bool, str]]:
    refused = [(where, problem) for where, problem in place.probes() if problem]
    for where, problem in refused:
        yield "place", False, f"{where} cannot be written: {problem}"
    if not refused:
        yield "place", True, f"{place.location} can be written"
    folder = place.folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    yield "disk", free > 1, f"{free:.1f} GB free"
    # A store that refused the probe would refuse this with an error.
    if not refused and place.is_open:
        dead = [name for name in place.claims() if not (place.holder(name) or {"alive": True})["alive"]]
        yield "claims", True, f"{len(dead)} of processes that are gone, the next batch takes them over"


def _trial() -> dict:
    """Run a notebook of two cells through the whole path, in a place of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder) / "place")
        place.open()
        pin = place.pin_folder("trial")
        pin.mkdir()
        cells = [
            {"cell_type": "code", "id": f"c{index}", "metadata": {"tags": tags}, "outputs": [], "source": source}
            | {"execution_count": None}
            for index, (source, tags) in enumerate(zip(_CELLS, (["parameters"], []), strict=True))
        ]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (pin / "notebook.ipynb").write_text(json.dumps(notebook))
        code, sources = digest_of(list(_CELLS)), digest_of([])
        digest = run_digest(code, {}, sources)
        attempt = AttemptProcess(
            {
                "place": str(place.folder), "session": "doctor", "run": digest[:ID_LENGTH], "digest": digest,
                "parameters": {}, "filled": ["out_dir"], "notebook": "trial.ipynb", "notebook_digest": code,
                "sources_digest": sources, "pin": "trial", "done_files": ["result.json"], "done_metrics": {},
                "run_timeout": 120.0, "cell_timeout": None, "attempts": 1, "cpus": 1, "devices": "", "data_root": "",
                "provenance": {},
            }
        )  # fmt: skip
        attempt.wait()
        return attempt.report()


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
