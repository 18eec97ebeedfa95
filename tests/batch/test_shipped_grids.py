"""The grids that ship: they hold what their table has, with values that a run accepts."""

import pytest

from lt_lib.batch.grid import load_grid
from lt_lib.batch.plan import make_plan
from lt_lib.recipes import RunConfig, method_name, preset

SIZES = {
    "smoke": 4,
    "cb-table": 3 * (2 * 5 * 5 * 5 + 2 * 5),
    "ldam-long-tailed": 3 * 2 * (12 + 10),
    "ldam-step": 3 * 2 * (12 + 10),
    "imdb": 3 * 4,
    "imdb-small": 3 * 4,
}


def grids(repository):
    return {path.stem: path for path in (repository / "notebooks" / "grids").glob("*.yaml")}


def test_the_shipped_grids_are_those_that_are_tested(repository):
    assert set(grids(repository)) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_every_point_is_a_run(repository, name):
    grid = load_grid(grids(repository)[name])
    assert grid.name == name
    assert (len(grid.points), grid.merged) == (SIZES[name], 0)
    configs = {RunConfig(**point) for point in grid.points}
    assert len(configs) == len(grid.points)
    assert len({run.id for run in make_plan(grid).runs}) == len(grid.points)
    profile = "quick" if name == "smoke" else "small" if name.endswith("-small") else "paper"
    assert {config.profile for config in configs} == {profile}


@pytest.mark.parametrize(("name", "kind"), [("ldam-long-tailed", "exponential"), ("ldam-step", "step")])
def test_the_ldam_grids_hold_every_method_of_the_table(repository, name, kind):
    found = {}
    for point in load_grid(grids(repository)[name]).points:
        config = RunConfig(**point)
        assert config.imbalance_type == kind
        found.setdefault((config.dataset, config.imbalance_ratio), set()).add(method_name(config))
    assert set(found) == {(data, ratio) for data in ("cifar10", "cifar100") for ratio in (100.0, 10.0)}
    # What the table and its appendix name, but for the focal losses, whose names here say which of the two is meant.
    named = {"ERM", "LDAM", "CB RS", "CB RW", "DRW", "DRS", "M-DRW", "LDAM-DRW"}
    for (dataset, _), methods in found.items():
        assert named <= methods
        assert ({"HG-DRS", "LDAM-HG-DRS"} <= methods) == (dataset == "cifar10")
        assert len(methods) == (12 if dataset == "cifar10" else 10)


@pytest.mark.parametrize("name", ["imdb", "imdb-small"])
def test_the_imdb_grids_are_their_presets_with_the_methods_of_the_table(repository, name):
    found = {RunConfig(**point) for point in load_grid(grids(repository)[name]).points}
    base = "imdb-paper" if name == "imdb" else name
    methods = ("ERM", "RS", "RW", "LDAM-DRW")
    assert found == {preset(base, method, seed=seed) for method in methods for seed in range(3)}
