"""The notebooks that are one run each: their parameters are the fields of a configuration, in its order."""

from dataclasses import asdict, fields

import image_trees
import papermill
import pytest

from lt_lib import recipes
from lt_lib.batch.grid import FILLED
from lt_lib.batch.parameters import parameter_problem, read_parameters
from lt_lib.recipes import LargeConfig, PretrainConfig, RunConfig, SelfTrainConfig, SemiConfig
from tools.check import notebook_paths, parameters_source, read_notebook

UNITS = {
    "900_run": RunConfig,
    "910_run_semi": SemiConfig,
    "915_run_self_training": SelfTrainConfig,
    "920_run_pretrain": PretrainConfig,
    "930_run_large": LargeConfig,
}
# The defaults of these configurations are those of the paper; their notebooks are stored at the quick profile.
OWN_DEFAULTS = {"910_run_semi", "930_run_large"}
# A kernel cannot be started again for several processes.
LEFT_OUT = {"930_run_large": {"num_devices"}}


def parameters(repository, name):
    (path,) = [path for path in notebook_paths(repository) if path.stem == name]
    return read_parameters(parameters_source(read_notebook(path)))


@pytest.mark.parametrize("name", UNITS)
def test_the_parameters_are_the_fields(repository, name):
    found = parameters(repository, name)
    own = [parameter for parameter in found if parameter.name not in FILLED]
    left_out = LEFT_OUT.get(name, set())
    expected = [(field.name, field.type.__name__) for field in fields(UNITS[name]) if field.name not in left_out]
    assert [(parameter.name, parameter.annotation) for parameter in own] == expected
    assert [parameter.name for parameter in found[len(own) :]] == list(FILLED)
    if name not in OWN_DEFAULTS:
        assert {p.name: p.default for p in own} == {field.name: field.default for field in fields(UNITS[name])}
    UNITS[name](**{parameter.name: parameter.default for parameter in own})


def other(parameter):
    """A value that the parameter does not have yet and that every configuration accepts."""
    fixed = {
        "dataset": "imagenet",
        "data_root": "x",
        "profile": "paper",
        "depth": 50,
        "out_dir": "o",
        "checkpoint": "c",
    }
    if parameter.name in fixed:
        return fixed[parameter.name]
    if parameter.choices:
        return next(choice for choice in parameter.choices if choice != parameter.default)
    if parameter.annotation == "bool":
        return not parameter.default
    return parameter.default + 1 if parameter.annotation == "int" else parameter.default / 2 + 0.1


def cells_of(repository, name):
    (path,) = [path for path in notebook_paths(repository) if path.stem == name]
    return [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"][1:]


def test_every_parameter_of_a_large_run_reaches_its_configuration(repository):
    values = {parameter.name: other(parameter) for parameter in parameters(repository, "930_run_large")}
    space = dict(values)
    exec(cells_of(repository, "930_run_large")[0], space)
    found = asdict(space["config"])
    assert found.pop("num_devices") == 1
    assert found == {name: value for name, value in values.items() if name not in FILLED}
    assert space["target"] == "o"


@pytest.mark.parametrize("made_up", [True, False])
def test_a_large_run_gets_its_files_and_its_checkpoint(repository, tmp_path, monkeypatch, made_up):
    seen = {}

    def run_large(config, **options):
        seen.update(options, config=config)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "run_large", run_large)
    space = {parameter.name: parameter.default for parameter in parameters(repository, "930_run_large")}
    space |= {"out_dir": str(tmp_path / "out"), "checkpoint": "state.pt"}
    if not made_up:
        image_trees.write_imagenet(tmp_path)
        space |= {"dataset": "imagenet", "data_root": str(tmp_path)}
    setup, files, training = cells_of(repository, "930_run_large")[:3]
    with pytest.raises(KeyboardInterrupt):
        exec("\n".join((setup, files, training)), space)
    assert seen["checkpoint"] == "state.pt"
    assert seen["files"].class_counts.tolist() == ([32, 16, 8, 4] if made_up else [5, 3, 2])
    assert (tmp_path / "out" / "made_up").is_dir() == made_up
    assert seen["config"].data_root == str(tmp_path / "out" if made_up else tmp_path)


def test_papermill_knows_every_parameter(repository):
    # Its reader drops a line with a second "=", and then calls a right name unknown.
    for path in notebook_paths(repository):
        declared = {parameter.name for parameter in read_parameters(parameters_source(read_notebook(path)))}
        assert set(papermill.inspect_notebook(str(path))) == declared, path.name


@pytest.mark.parametrize("comment", ["at most a few, ≥ 1 and ≤ 5", "at most a few, >= 1 and <= 5"])
def test_limits_may_be_written_in_one_sign(comment):
    (parameter,) = read_parameters(f"count: int = 2  # {comment}")
    assert parameter.bounds == [(">=", 1.0), ("<=", 5.0)]
    assert "must be <= 5, got 6" in parameter_problem(parameter, 6)


@pytest.mark.parametrize("name", UNITS)
def test_the_setup_of_a_run_may_be_executed_again(repository, name):
    space = {parameter.name: parameter.default for parameter in parameters(repository, name)}
    space |= {"In": ["", "# Parameters\nseed = 3\nout_dir = 'x'\n"], "seed": 3}
    for _ in range(2):
        exec(cells_of(repository, name)[0], space)
    assert space["config"].seed == 3


@pytest.mark.parametrize("name", UNITS)
def test_a_misspelt_parameter_stops_the_run(repository, name):
    space = {parameter.name: parameter.default for parameter in parameters(repository, name)}
    space["In"] = ["", "# Parameters\nseed = 1\nepoch = 5\n"]
    with pytest.raises(ValueError, match=r"`parameters` must be one of .*, got 'epoch'.*'epochs'"):
        exec(cells_of(repository, name)[0], space)


def test_papermill_itself_stops_at_a_misspelt_parameter(repository, tmp_path):
    (path,) = [path for path in notebook_paths(repository) if path.stem == "900_run"]
    with pytest.raises(papermill.PapermillExecutionError, match="got 'epoch'. Did you mean 'epochs'"):
        papermill.execute_notebook(str(path), str(tmp_path / "out.ipynb"), {"epoch": 5}, progress_bar=False)
