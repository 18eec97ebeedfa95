"""The notebooks that are one run each: their parameters are the fields of a configuration, in its order."""

from dataclasses import fields

import pytest

from lt_lib.batch.grid import FILLED
from lt_lib.batch.parameters import read_parameters
from lt_lib.recipes import PretrainConfig, RunConfig, SelfTrainConfig, SemiConfig
from tools.check import notebook_paths, parameters_source, read_notebook

UNITS = {
    "900_run": RunConfig,
    "910_run_semi": SemiConfig,
    "915_run_self_training": SelfTrainConfig,
    "920_run_pretrain": PretrainConfig,
}
# The defaults of the semi-supervised configuration are those of the paper; its notebook is stored at the quick profile.
OWN_DEFAULTS = {"910_run_semi"}


def parameters(repository, name):
    (path,) = [path for path in notebook_paths(repository) if path.stem == name]
    return read_parameters(parameters_source(read_notebook(path)))


@pytest.mark.parametrize("name", UNITS)
def test_the_parameters_are_the_fields(repository, name):
    found = parameters(repository, name)
    own = [parameter for parameter in found if parameter.name not in FILLED]
    expected = [(field.name, field.type.__name__) for field in fields(UNITS[name])]
    assert [(parameter.name, parameter.annotation) for parameter in own] == expected
    assert [parameter.name for parameter in found[len(own) :]] == list(FILLED)
    if name not in OWN_DEFAULTS:
        assert {p.name: p.default for p in own} == {field.name: field.default for field in fields(UNITS[name])}
    UNITS[name](**{parameter.name: parameter.default for parameter in own})
