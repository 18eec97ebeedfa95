"""Every runner takes the kind of configuration that it is for, and names the runner of the others."""

import pytest

from lt_lib import recipes
from lt_lib.recipes import large

RUNNERS = {
    recipes.run: recipes.RunConfig,
    recipes.run_semi: recipes.SemiConfig,
    recipes.run_self_train: recipes.SelfTrainConfig,
    recipes.run_pretrain: recipes.PretrainConfig,
    large.run_large: recipes.LargeConfig,
}
MANY = {recipes.run_many: recipes.run, recipes.run_semi_many: recipes.run_semi}
PAIRS = [(runner, other) for runner in RUNNERS for other in RUNNERS if other is not runner]


def refused(kind, config, hint):
    message = f"`config` must be a {kind.__name__}, got a {type(config).__name__}{hint}."
    return pytest.raises(TypeError, match=f"^{message}$")


@pytest.mark.parametrize(("runner", "other"), PAIRS, ids=lambda runner: runner.__name__)
def test_a_configuration_of_another_kind_is_refused_with_its_runner(runner, other):
    config = RUNNERS[other]()
    with refused(RUNNERS[runner], config, f": `{other.__name__}` runs it"):
        runner(config)


@pytest.mark.parametrize("many", MANY, ids=lambda many: many.__name__)
@pytest.mark.parametrize("other", RUNNERS, ids=lambda runner: runner.__name__)
def test_one_of_many_is_refused_like_a_single_one(many, other):
    if other is MANY[many]:
        return
    kind, config = RUNNERS[MANY[many]], RUNNERS[other]()
    with refused(kind, config, f": `{other.__name__}` runs it"):
        many([kind(), config])


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner.__name__)
def test_what_is_no_configuration_is_refused_too(runner):
    with refused(RUNNERS[runner], {}, ""):
        runner({})
