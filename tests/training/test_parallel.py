import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("parallel_script.py")


def run(processes, target, repository):
    """Start the script as a user would; Fabric starts the other processes itself."""
    environment = os.environ | {"PYTHONPATH": str(repository), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(processes), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.timeout(600)  # two fresh processes import everything, on a machine that may be busy
def test_two_processes_train_as_one_does(tmp_path, repository):
    run(2, tmp_path / "two", repository)
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from parallel_script import main
    finally:
        sys.path.remove(str(SCRIPT.parent))
    main(1, tmp_path / "one")
    weights, losses, accuracy, stopped = torch.load(tmp_path / "one.0")
    for rank in (0, 1):
        found = torch.load(tmp_path / f"two.{rank}")
        for name, value in weights.items():
            torch.testing.assert_close(found[0][name], value, rtol=1e-10, atol=1e-12)
        assert found[1] == pytest.approx(losses, rel=1e-10)
        assert found[2] == {"test": pytest.approx(accuracy["test"])}
        assert found[3] == stopped
    assert stopped is not None
    assert stopped[:2] == (0, 2)
