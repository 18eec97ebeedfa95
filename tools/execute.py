"""Run notebooks: through papermill with checked parameters, and through nbval against their stored outputs."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_lib.batch.kernels import execute_notebook
from lt_lib.batch.parameters import check_values, read_parameters
from tools.check import all_problems, parameters_source, read_notebook

ROOT = Path(__file__).resolve().parents[1]
SANITIZE = ROOT / "tests" / "notebooks" / "sanitize.cfg"

# Every stored output is made, and compared, under these settings. One thread per kernel: two kernels run side by side,
# and sums then have the same order everywhere. No GPU: the quick profile is a CPU profile.
QUICK_ENVIRONMENT = {
    "SOURCE_DATE_EPOCH": "0",
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    # The same kernels on every x86 processor of the last ten years: with AVX-512 sums round otherwise.
    "ATEN_CPU_CAPABILITY": "avx2",
}


# About how long each notebook takes at the quick profile, in seconds; it orders the work and nothing else. One that is
# not named comes first.
_SECONDS = {
    "090": 80, "120": 75, "060": 65, "110": 60, "070": 60, "020": 60, "040": 50, "010": 35, "050": 30, "930": 30,
    "080": 25, "030": 25, "100": 20, "910": 20, "915": 20, "920": 20, "900": 10, "130": 10,
}  # fmt: skip


def find_notebook(name: str, root: Path = ROOT) -> Path:
    """Find a notebook by its number, its name or its path.

    Args:
        name: Such as ``030``, ``030_effective_number`` or a path.
        root: Top of the source tree.

    Returns:
        Its path.

    Raises:
        ValueError: If there is none, or more than one.
    """
    if name.endswith(".ipynb"):
        if Path(name).is_file():
            return Path(name).resolve()
        raise ValueError(f"`notebook` must exist, got {name!r}.")
    folder = root / "notebooks"
    matches = sorted({*folder.glob(f"{name}_*.ipynb"), *folder.glob(f"{name}.ipynb")})
    if len(matches) != 1:
        known = ", ".join(path.stem for path in sorted(folder.glob("*.ipynb"))) or "none"
        raise ValueError(f"`notebook` must name one notebook, got {name!r}. There are: {known}.")
    return matches[0]


def run_notebook(source: Path, target: Path, values: Mapping[str, Any]) -> None:
    """Execute a notebook with papermill; the result appears under its name only when every cell has run.

    Args:
        source: The notebook.
        target: Where the executed copy goes. After a failure the copy is at ``<stem>.failed.ipynb`` instead.
        values: Parameters, of the annotated types.

    Raises:
        ValueError: For an unknown parameter, or a path which papermill would take for a pattern.
        TypeError: For a parameter of the wrong type.
    """
    check_values(read_parameters(parameters_source(read_notebook(source))), values)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.stem}.failed.ipynb")
    execute_notebook(source, partial, values, folder=source.parent)
    os.replace(partial, target)


def longest_first(paths: list[Path]) -> list[Path]:
    """Notebooks in the order to start them in, when several run at once: no core waits for the end of a long one."""
    return sorted(paths, key=lambda path: (-_SECONDS.get(path.name[:3], math.inf), path.name))


def gate(paths: list[Path], workers: int = 2) -> int:
    """Hold stored notebooks against the rules and against a fresh run.

    Args:
        paths: Notebooks.
        workers: Kernels at once; 0 runs them in this process group one after the other.

    Returns:
        0 if everything agrees, else the exit code of the first step that did not.
    """
    found = all_problems(paths)
    print("\n".join(found) if found else f"{len(paths)} notebooks keep the rules")
    if found:
        return 1
    if not paths:
        return 0
    return compare(longest_first(paths), workers).returncode


def compare(
    paths: list[Path], workers: int = 2, options: tuple[str, ...] = (), *, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run notebooks again under nbval's strict comparison, without touching any file of the source tree.

    Args:
        paths: Notebooks.
        workers: Kernels at once; 0 runs all in one process.
        options: More options for pytest.
        capture: Keep the output in the result instead of printing it.

    Returns:
        The finished process.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
        command += ["-o", "addopts=--strict-markers"]  # without the switch that keeps nbval away from unit tests
        command += ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=120", f"--nbval-sanitize-with={SANITIZE}"]
        # All cells of a notebook share one kernel, so they must stay in one worker.
        command += ["-p", "no:python", "-q", f"-n{workers}", "--dist=loadscope", "--no-loadscope-reorder"]
        command += ["--durations=10", *options, *(str(path) for path in paths)]
        environment = {**os.environ, **QUICK_ENVIRONMENT, "LT_OUT": out}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=capture, text=True)
