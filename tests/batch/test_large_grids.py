"""One run and more of each grid at large scale, from small trees in the original formats to a collected row."""

import json

import image_trees
import pytest

from lt_lib.batch.grid import load_grid
from lt_lib.batch.tables import collect
from lt_lib.recipes import LargeConfig

# What makes a run small enough for a test; everything else stays as the grid has it.
SHORT = {
    "depth": 18, "image_size": 32, "epochs": 1, "batch_size": 8, "workers": 0, "device": "cpu", "precision": "float32",
}  # fmt: skip
TREES = {
    "inaturalist": image_trees.write_inaturalist,
    "inaturalist:2017": lambda root: image_trees.write_inaturalist(root, "2017"),
    "imagenet": image_trees.write_imagenet,
    "imagenet_lt": image_trees.write_imagenet_lt,
}
# Grid -> data set and method of a point, and what is changed besides; what is expected of its row.
RUNS = {
    "cb-large": [("inaturalist:2017", "CB-focal", {}), ("imagenet", "ERM", {})],
    # Three epochs for the second stage, and images decoded in processes that the kernel starts.
    "ldam-inat18": [("inaturalist", "LDAM-DRW", {"epochs": 3, "workers": 1})],
    "imagenet-lt": [("imagenet_lt", "ERM", {})],
}
CLASS_COUNTS = {
    "inaturalist": [6, 4, 2],
    "inaturalist:2017": [6, 4, 2],
    "imagenet": [5, 3, 2],
    "imagenet_lt": [4, 3, 2],
}


def reduced(path, root, runs, target):
    """A grid like a shipped one with these points alone, made small; every other key is the shipped one's."""
    from ruamel.yaml import YAML

    grid = load_grid(path)
    content = YAML(typ="safe", pure=True).load(grid.text)
    for key in ("fixed", "axes", "seeds", "exclude"):
        content.pop(key, None)
    points = {}
    for point in grid.points:
        config = LargeConfig(**point)
        points.setdefault((config.dataset, config.method), point)
    content["points"] = [
        points[dataset, method] | SHORT | {"data_root": str(root)} | changes for dataset, method, changes in runs
    ]
    del content["profile"]  # every point has it
    content["notebook"] = str(grid.notebook.path)
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


@pytest.mark.timeout(600)  # a kernel imports everything, on a machine that may be busy
@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_a_large_grid_from_files_to_its_row(bench, repository, name):
    root = bench.folder / "images"
    for dataset, _, _ in RUNS[name]:
        TREES[dataset](root)
    grid = reduced(repository / "notebooks" / "grids" / f"{name}.yaml", root, RUNS[name], bench.folder / "g.yaml")
    code, said = bench.finish(bench.batch(grid), seconds=500)
    assert code == 0, said
    bench.assert_nothing_is_left()

    table = collect(bench.place)
    assert (table.complete, table.got) == (True, len(RUNS[name]))
    for row, (dataset, method, changes) in zip(table.rows, RUNS[name], strict=True):
        assert (row["dataset"], row["method"], row["model"]) == (dataset, method, "resnet18")
        assert (row["profile"], row["imbalance_type"], row["image_size"]) == ("paper", "natural", 32)
        counts = CLASS_COUNTS[dataset]
        assert row["imbalance_ratio"] == max(counts) / min(counts)
        for score in ("accuracy_last", "accuracy_best_on_test", "top5_last", "mean_recall_last", "recall_few"):
            assert 0 <= row[score] <= 1, score
        assert row["recall_many"] is None
        assert (row["accuracy_validation"] is not None) == (dataset == "imagenet_lt")
        result = json.loads((bench.place.run_folder(row["run"]) / "out" / "result.json").read_text())
        assert result["class_counts"] == counts
        assert len(result["curves"]["train_loss"]) == changes.get("epochs", 1)
        assert row["config_hash"] == LargeConfig(**result["config"]).hash()
