"""The grids that ship: they hold what their table has, with values that a run accepts."""

from dataclasses import fields, replace

import numpy as np
import pytest

from lt_lib import counts
from lt_lib.batch.grid import load_grid
from lt_lib.batch.plan import make_plan
from lt_lib.claims.published import published
from lt_lib.data.extra import CINIC_SPLITS
from lt_lib.recipes import (
    LARGE_METHODS,
    LARGE_PRESETS,
    LargeConfig,
    PretrainConfig,
    RunConfig,
    SelfTrainConfig,
    SemiConfig,
    large_preset,
    method_config,
    method_name,
    preset,
    semi_config,
)

SIZES = {
    "smoke": 4,
    "cb-table": 3 * (2 * 5 * 5 * 5 + 2 * 5),
    "ldam-long-tailed": 3 * 2 * (13 + 11),
    "ldam-step": 3 * 2 * (13 + 11),
    "ldam-small": 2 * 10,
    "later-methods": 3 * 2 * 2 * 3,
    "decoupling": 3 * 2 * 2 * 3,
    "imdb": 3 * 4,
    "imdb-small": 3 * 4,
    "crest": 10 * 5 * 4,
    "crest-small": 2 * 5,
    "self-training-table": 3 * 2 * 2 * (12 + 1 + 3),
    "self-training-relevance": 3 * 2 * (2 * 5 + 1 + 1),
    "self-training-pool-ratio": 3 * (5 + 1),
    "ssp": 3 * 2 * 3 * 3 * 3,
    "ssp-small": 3 * 3,
    "cb-large": 3 * 3 * (3 + 3 + 3 + 1),
    "ldam-inat18": 3 * 4,
    "imagenet-lt": 3,
}
LARGE = ("cb-large", "ldam-inat18", "imagenet-lt")
UNITS = {
    "900_run": RunConfig,
    "910_run_semi": SemiConfig,
    "915_run_self_training": SelfTrainConfig,
    "920_run_pretrain": PretrainConfig,
    "930_run_large": LargeConfig,
}


def grids(repository):
    return {path.stem: path for path in (repository / "notebooks" / "grids").glob("*.yaml")}


def configurations(repository, name):
    grid = load_grid(grids(repository)[name])
    return [UNITS[grid.notebook.path.stem](**point) for point in grid.points]


def test_the_shipped_grids_are_those_that_are_tested(repository):
    assert set(grids(repository)) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_every_point_is_a_run(repository, name):
    grid = load_grid(grids(repository)[name])
    assert grid.name == name
    assert (len(grid.points), grid.merged) == (SIZES[name], 0)
    configs = set(configurations(repository, name))
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
    # What the table and its appendix name, and both focal losses that its cells may mean.
    named = {"ERM", "Focal", "Softmax focal", "CB-focal", "LDAM", "CB RS", "CB RW", "DRW", "DRS", "M-DRW", "LDAM-DRW"}
    for (dataset, _), methods in found.items():
        assert named <= methods
        assert ({"HG-DRS", "LDAM-HG-DRS"} <= methods) == (dataset == "cifar10")
        assert len(methods) == (13 if dataset == "cifar10" else 11)


def test_the_later_methods_share_their_protocol_with_the_ldam_grids(repository):
    pairs = {
        (config.imbalance_type, config.imbalance_ratio, config.seed): config
        for name in ("ldam-long-tailed", "ldam-step")
        for config in configurations(repository, name)
        if config.dataset == "cifar10" and method_name(config) == "ERM"
    }
    found = set(configurations(repository, "later-methods"))
    # At tau 1 the two losses are one.
    losses = ({"loss": "balanced_softmax"}, *({"loss": "logit_adjusted", "tau": tau} for tau in (0.5, 2.0)))
    assert found == {replace(config, **loss) for config in pairs.values() for loss in losses}
    decoupled = configurations(repository, "decoupling")
    for config in decoupled:
        paired = pairs[config.imbalance_type, config.imbalance_ratio, config.seed]
        different = {f.name for f in fields(paired) if getattr(config, f.name) != getattr(paired, f.name)}
        assert different == {"validation_per_class"}
        assert config.pretext == "none"
    assert {config.classifier for config in decoupled} == {"head", "crt", "tau"}


def test_the_small_ldam_grid_is_its_preset_with_a_smaller_network(repository):
    methods = ("ERM", "DRW", "CB RW", "LDAM", "LDAM-DRW", "CB RS", "Balanced softmax", "CB-focal", "M-DRW", "Focal")
    base = {"dataset": "folder:data/cifar10-jpeg", "model": "resnet8"}
    found = configurations(repository, "ldam-small")
    assert found == [preset("cifar-small", method, seed=seed, **base) for seed in (0, 1) for method in methods]


@pytest.mark.parametrize("name", ["imdb", "imdb-small"])
def test_the_imdb_grids_are_their_presets_with_the_methods_of_the_table(repository, name):
    found = {RunConfig(**point) for point in load_grid(grids(repository)[name]).points}
    base = "imdb-paper" if name == "imdb" else name
    methods = ("ERM", "RS", "RW", "LDAM-DRW")
    assert found == {preset(base, method, seed=seed) for method in methods for seed in range(3)}


def test_the_crest_grid_is_the_authors_configuration_for_every_cell(repository):
    # The noise of views belongs to vectors; for images the fields are without effect.
    found = [replace(c, weak_noise=0.1, strong_noise=0.5) for c in configurations(repository, "crest")]
    cells = [("cifar10", 5000, gamma, share) for gamma in (50, 100, 200) for share in (0.1, 0.3)]
    cells += [("cifar100", 500, gamma, share) for gamma in (50, 100) for share in (0.1, 0.3)]
    expected = {
        semi_config(
            method,
            dataset=dataset,
            n_max=n_max,
            imbalance_ratio=gamma,
            label_fraction=share,
            seed=fold,
            split_seed=fold,
        )
        for method in ("fixmatch", "fixmatch equal-compute", "crest", "crest+")
        for dataset, n_max, gamma, share in cells
        for fold in range(5)
    }
    assert set(found) == expected


@pytest.mark.parametrize("name", ["self-training-table", "self-training-relevance", "self-training-pool-ratio"])
def test_every_self_training_has_its_control(repository, name):
    configs = configurations(repository, name)
    pooled = {config for config in configs if config.pool_source != "none"}
    controls = set(configs) - pooled
    assert controls == {config.control() for config in pooled}
    for config in pooled:
        available = 5000 if config.dataset == "cifar10" else 1000
        labelled = counts.exponential_counts(available, 10, config.imbalance_ratio)
        exact = config.control(int(labelled.sum()))
        assert abs(exact.epochs - config.control().epochs) <= 0.05 * exact.epochs
        assert (config.model, config.augment, config.epochs, config.student_epochs) == ("resnet32", True, 200, 200)
        assert (config.batch_size, config.student_batch_size, config.omega) == (128, 256, 1.0)


def test_the_self_training_table_has_the_cells_of_the_published_one(repository):
    configs = configurations(repository, "self-training-table")
    pooled = [config for config in configs if config.pool_source != "none"]
    cells = {(c.dataset, c.imbalance_ratio, c.pool_imbalance_ratio, method_name(c)) for c in pooled}
    assert cells == {
        (dataset, ratio, pool, method)
        for dataset in ("svhn", "cifar10")
        for ratio in (100.0, 50.0, 10.0)
        for pool in (1.0, ratio / 2, ratio, 2 * ratio, *((20.0,) if ratio == 100 else ()))
        for method in ("ERM", "LDAM-DRW")
    }
    for config in pooled:
        labelled = counts.exponential_counts(config.n_max, 10, config.imbalance_ratio)
        sizes, outside = config.pool_spec.sizes(int(labelled.sum()), 10)
        # CINIC-10 has 7,000 images from ImageNet per class and split; SVHN's extra split has more than enough.
        assert sizes.max() <= (len(CINIC_SPLITS) * 7000 if config.dataset == "cifar10" else 531131 / 50)
        assert outside == 0
    svhn = next(c for c in pooled if (c.dataset, c.imbalance_ratio) == ("svhn", 50.0))
    assert counts.exponential_counts(svhn.n_max, 10, 50.0).sum() == 2795
    assert svhn.frequency_order(10).tolist() == [*range(1, 10), 0]
    assert svhn.pool_amount == 5.0


def test_the_relevance_grids_vary_what_their_figures_vary(repository):
    relevance = [c for c in configurations(repository, "self-training-relevance") if c.pool_source != "none"]
    assert {(c.imbalance_ratio, c.pool_imbalance_ratio, c.pool_amount) for c in relevance} == {(50.0, 50.0, 5.0)}
    below = set(np.round(np.arange(0, 1, 0.2), 1).tolist())
    sources = {"cifar10": below, "noise": below, "": {1.0}}
    cells = {(method_name(c), c.outside, c.relevance) for c in relevance}
    assert cells == {(m, source, r) for m in ("ERM", "LDAM-DRW") for source, shares in sources.items() for r in shares}
    ratio = [c for c in configurations(repository, "self-training-pool-ratio") if c.pool_source != "none"]
    assert {(c.imbalance_ratio, c.relevance, c.outside) for c in ratio} == {(50.0, 0.6, "cifar10")}
    assert {c.pool_imbalance_ratio for c in ratio} == {1.0, 25.0, 50.0, 100.0, 200.0}


def test_the_pretraining_grid_has_every_method_with_its_controls(repository):
    found = set(configurations(repository, "ssp"))
    base = PretrainConfig(
        profile="paper", model="resnet32", augment=True, epochs=200, pretrain_epochs=200, split_scheme="ldam"
    )
    expected = set()
    for method in ("ERM", "RS", "LDAM-DRW"):
        for dataset in ("cifar10", "cifar100"):
            for ratio in (100, 50, 10):
                for seed in range(3):
                    run = method_config(method, base, dataset=dataset, imbalance_ratio=ratio, seed=seed)
                    expected |= {run, run.control(), replace(run.control(), epochs=200)}
    assert found == expected


@pytest.mark.parametrize("name", ["crest", "ssp", *(name for name in SIZES if name.startswith("self-training"))])
def test_the_grids_say_what_they_cost_and_what_is_not_as_in_the_paper(repository, name):
    grid = load_grid(grids(repository)[name])
    assert 30 * 60 <= grid.estimate <= 12 * 3600
    assert "ot as in the paper" in grid.text
    assert f"lt-lib batch notebooks/grids/{name}.yaml" in grid.text


@pytest.mark.parametrize("name", ["crest-small", "ssp-small"])
def test_the_small_grids_hold_the_control(repository, name):
    configs = configurations(repository, name)
    if name == "crest-small":
        by_label = {config.label: config for config in configs}
        assert by_label["fixmatch equal-compute"].steps == by_label["crest"].steps == by_label["crest+"].steps
    else:
        assert {c.control() for c in configs} <= set(configs)


def large_cell(config):
    return config.dataset, config.method, config.depth, config.image_size


def test_the_large_class_balanced_grid_has_the_cells_of_the_published_table_and_one_control(repository):
    configs = configurations(repository, "cb-large")
    names = {"inaturalist2017": "inaturalist:2017", "inaturalist2018": "inaturalist", "ilsvrc2012": "imagenet"}
    cells = set()
    for row in published("cb_large").itertuples():
        depth, size = row.setting.removeprefix("ResNet-").split(", ")
        method = {"plain softmax": "ERM", "class_balanced focal": "CB-focal"}[f"{row.method} {row.loss}"]
        cells.add((names[row.dataset], method, int(depth), int(size.partition("×")[0])))
    assert len(cells) == 27
    controls = {(dataset, "Focal", 50, 224) for dataset in names.values()}
    for seed in range(3):
        assert {large_cell(config) for config in configs if config.seed == seed} == cells | controls


def test_the_ldam_grid_has_the_rows_that_the_published_table_does_not_copy(repository):
    rows = published("ldam_inat18")
    own = set(rows[rows.inherited_from.isna()].method) | {"ERM-SGD"}
    names = {"ERM-SGD": "ERM", "ERM-DRW": "DRW", "LDAM-SGD": "LDAM", "LDAM-DRW": "LDAM-DRW"}
    for seed in range(3):
        configs = [config for config in configurations(repository, "ldam-inat18") if config.seed == seed]
        assert {config.method for config in configs} == {names[row] for row in own}


@pytest.mark.parametrize("name", LARGE)
def test_every_point_of_the_large_grids_is_its_preset(repository, name):
    presets = {
        values["dataset"]: key for key, values in LARGE_PRESETS.items() if key.startswith(name.partition("-")[0])
    }
    found = configurations(repository, name)
    assert {config.dataset for config in found} == set(presets)
    for config in found:
        assert config.method in LARGE_METHODS
        free = {key: getattr(config, key) for key in ("depth", "image_size", "seed", "micro_batch")}
        assert config == large_preset(presets[config.dataset], config.method, **free)


@pytest.mark.parametrize("name", LARGE)
def test_the_large_grids_say_what_they_cost_and_take_a_gpu_with_cores_that_decode(repository, name):
    grid = load_grid(grids(repository)[name])
    assert "ot as in the paper" in grid.text
    assert "rithmetic, not measured" in grid.text
    assert f"lt-lib batch notebooks/grids/{name}.yaml" in grid.text
    assert (grid.resources.gpus, grid.resources.cpus) == (1, configurations(repository, name)[0].workers)
    assert grid.estimate < grid.limits.run_timeout / 4
