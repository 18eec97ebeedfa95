"""What the comments of the run notebooks rule out before a kernel starts, the configurations of the runs refuse too."""

import ast
import inspect
import tokenize
from dataclasses import fields, replace
from io import StringIO
from textwrap import dedent

import pytest

from lt_lib.batch.notebook import load_notebook
from lt_lib.batch.parameters import parameter_problem
from lt_lib.cli import main
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.large_config import LargeConfig
from lt_lib.recipes.pretrain import PretrainConfig
from lt_lib.recipes.self_train import SelfTrainConfig
from lt_lib.recipes.semi_config import SemiConfig

RUNS = {
    "900_run": RunConfig,
    "910_run_semi": SemiConfig,
    "915_run_self_training": SelfTrainConfig,
    "920_run_pretrain": PretrainConfig,
    "930_run_large": LargeConfig,
}
# A kernel cannot be started again for several processes.
LEFT_OUT = {"930_run_large": {"num_devices"}}
# Texts that no list can hold: names of data, paths, and models with numbers in their names.
FREE = {"dataset", "data_root", "label", "class_order", "outside", "base_method", "profile"}


def parameters_of(repository, name):
    found = load_notebook(repository / "notebooks" / f"{name}.ipynb").parameters
    return {parameter.name: parameter for parameter in found if parameter.name not in ("out_dir", "checkpoint")}


def fields_of(name):
    """The fields of a configuration that its notebook has."""
    return [field for field in fields(RUNS[name]) if field.name not in LEFT_OUT.get(name, set())]


def tables_of(kind, name):
    """Entries of the tables of this name in the modules of a dataclass and of those it inherits from."""
    modules = [inspect.getmodule(base) for base in kind.__mro__ if base is not object]
    return [entry for module in modules for entry in getattr(module, name, ())]


def comments_of(kind):
    """Comments of the fields of a dataclass, those it inherits first."""
    found = {}
    for base in [base for base in reversed(kind.__mro__) if base is not object]:
        source = dedent(inspect.getsource(base))
        comments = {
            token.start[0]: token.string.removeprefix("# ")
            for token in tokenize.generate_tokens(StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        for node in ast.parse(source).body[0].body:
            if isinstance(node, ast.AnnAssign) and node.lineno in comments:
                found[node.target.id] = comments[node.lineno]
    return found


@pytest.mark.parametrize("name", RUNS)
def test_a_notebook_has_the_fields_of_its_configuration_with_their_comments(repository, name):
    parameters, comments = parameters_of(repository, name), comments_of(RUNS[name])
    assert list(parameters) == [field.name for field in fields_of(name)]
    for field in fields_of(name):
        stated = comments[field.name]
        if not stated.startswith("see ") and field.name != "alpha":  # a third, which no literal is
            # papermill reads no line with a second "=".
            assert parameters[field.name].comment == stated.replace(">=", "≥"), field.name


@pytest.mark.parametrize("name", RUNS)
def test_every_range_of_a_configuration_is_stated(repository, name):
    parameters = parameters_of(repository, name)
    for key, low, high in tables_of(RUNS[name], "_RANGES"):
        if key in LEFT_OUT.get(name, set()):
            continue
        # The tables have closed ranges; what is just within an open one stands for it.
        expected = {(">", 0.0) if 0 < low < 1e-5 else (">=", low)}
        if high < float("inf"):
            expected |= {("<", 1.0) if 0 < 1 - high < 1e-5 else ("<=", high)}
        assert set(parameters[key].bounds) == expected, key


@pytest.mark.parametrize("name", RUNS)
def test_numbers_beyond_the_stated_limits_pass_neither(repository, name):
    parameters = parameters_of(repository, name)
    base = RUNS[name](**{key: parameter.default for key, parameter in parameters.items()})
    for key, parameter in parameters.items():
        for sign, limit in parameter.bounds:
            step = 1 if parameter.annotation == "int" else 0.25
            outside = {">=": limit - step, "<=": limit + step, ">": limit, "<": limit}[sign]
            value = int(outside) if parameter.annotation == "int" else outside
            assert parameter_problem(parameter, value).startswith(f"`{key}` must be {sign} {limit:g}"), key
            with pytest.raises(ValueError, match=f"`({key}|{key.removeprefix('pool_')})` must be"):
                replace(base, **{key: value})


@pytest.mark.parametrize("name", RUNS)
def test_texts_may_be_what_the_configuration_knows_and_nothing_else(repository, name):
    kind = RUNS[name]
    parameters = parameters_of(repository, name)
    base = kind(**{key: parameter.default for key, parameter in parameters.items()})
    known = {}
    for module in {inspect.getmodule(base) for base in kind.__mro__ if base is not object}:
        known |= getattr(module, "_CHOICES", {})
    for key, parameter in parameters.items():
        if parameter.annotation != "str" or key in FREE or (key == "model" and name == "910_run_semi"):
            assert parameter.choices == () or key == "profile"
            continue
        assert parameter.choices, key
        if key in known:
            assert set(parameter.choices) == set(known[key]), key
        with pytest.raises(ValueError, match=f"`{key}`"):
            replace(base, **{key: "no_such"})
        assert f"`{key}` must be one of" in parameter_problem(parameter, "no_such")


def test_a_grid_with_such_values_is_refused_with_all_its_faults_and_no_kernel_starts(repository, tmp_path, capsys):
    notebook = repository / "notebooks" / "900_run.ipynb"
    grid = tmp_path / "g.yaml"
    grid.write_text(
        f"name: g\nnotebook: {notebook}\nfixed: {{epochs: 0, imbalance_ratio: 0.5}}\n"
        "axes: {beta: [0.9, 1.5], loss: [ladm], warmup: [true], lr_decya: [1]}\n"
    )
    assert main(["batch", str(grid), "--out", str(tmp_path / "place")]) == 2
    said = capsys.readouterr().err
    assert "has 6 faults" in said
    for text in (
        "`epochs` must be >= 1, got 0",
        "`imbalance_ratio` must be >= 1, got 0.5",
        "`beta` must be <= 1, got 1.5",
        "`loss` must be one of softmax, sigmoid, focal, softmax_focal, ldam, hinge, balanced_softmax, logit_adjusted",
        "`warmup` must be float, got True (bool)",
        "got an unknown name. Nearest: lr_decay",
    ):
        assert text in said
    assert not (tmp_path / "place").exists()
