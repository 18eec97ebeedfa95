"""The training notebook through a batch, and the same through plain papermill."""

import json
import os
import subprocess
import sys

from lt_lib.batch.place import Place
from lt_lib.batch.tables import collect
from lt_lib.cli import main

GRID = """name: tiny
notebook: {notebook}
fixed: {{epochs: 2, n_max: 40, imbalance_ratio: 4}}
axes:
  loss: [ldam]
"""


def test_collected_numbers_are_those_of_a_plain_run(repository, tmp_path, capsys):
    notebook = repository / "notebooks" / "900_run.ipynb"
    path = tmp_path / "tiny.yaml"
    path.write_text(GRID.format(notebook=notebook))
    place = Place(tmp_path / "place")
    assert main(["batch", str(path), "--out", str(place.folder), "--scheduler", "sequential"]) == 0, capsys.readouterr()

    plain = tmp_path / "plain"
    values = {"epochs": 2, "n_max": 40, "imbalance_ratio": 4.0, "loss": "ldam", "out_dir": str(plain)}
    words = [word for name, value in values.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--no-progress-bar"], env=environment, check=True, capture_output=True, timeout=200)

    expected = json.loads((plain / "result.json").read_text())["row"]
    (row,) = collect(place).rows
    assert row["complete"]
    for name, value in expected.items():
        if name != "seconds":
            assert row[name] == value, name
    manifest = place.manifest(row["run"], contents=True)
    assert {"out/result.json", "out/curves.csv", "notebook.ipynb", "log.txt"} <= set(manifest["files"])
