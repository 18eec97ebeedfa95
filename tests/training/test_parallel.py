import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("parallel_script.py")


def run(processes, target, repository):
    """Start the script as a user would; Fabric starts the other processes itself."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": str(repository), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(processes), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_train_as_one_does(tmp_path, repository):
    run(1, tmp_path / "one", repository)
    run(2, tmp_path / "two", repository)
    weights, losses, accuracy, stopped = torch.load(tmp_path / "one.0")
    for rank in (0, 1):
        found = torch.load(tmp_path / f"two.{rank}")
        for name, value in weights.items():
            torch.testing.assert_close(found[0][name], value, rtol=1e-10, atol=1e-12)
        assert found[1] == pytest.approx(losses, rel=1e-10)
        assert found[2] == accuracy
        assert found[3] == stopped
    assert stopped is not None
    assert stopped[:2] == (0, 2)
