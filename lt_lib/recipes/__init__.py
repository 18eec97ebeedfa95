"""The composition root: a `RunConfig` becomes a trained and measured model."""

from lt_lib.recipes._fields import from_parameters, parse_changes
from lt_lib.recipes.build import Objective, Problem, Subset, build_problem, class_profile, draw_subset, load_dataset
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.large import LargeResult, load_large_result, run_large
from lt_lib.recipes.large_config import LARGE_METHODS, LARGE_PRESETS, LargeConfig, large_preset
from lt_lib.recipes.methods import METHODS, PRESETS, method_config, method_name, preset
from lt_lib.recipes.pretrain import PretrainConfig, PretrainResult, load_pretrain_result, run_pretrain
from lt_lib.recipes.result import RunResult, load_result
from lt_lib.recipes.run import run, run_many
from lt_lib.recipes.self_train import (
    SelfTrainConfig,
    SelfTrainResult,
    draw_self_training,
    load_self_train_result,
    run_self_train,
)
from lt_lib.recipes.semi import SemiProblem, SemiResult, build_semi_problem, load_semi_result, run_semi, run_semi_many
from lt_lib.recipes.semi_config import (
    SEMI_METHODS,
    SEMI_PRESETS,
    SemiConfig,
    semi_config,
    semi_method_name,
    semi_preset,
)

__all__ = [
    "LARGE_METHODS",
    "LARGE_PRESETS",
    "METHODS",
    "PRESETS",
    "SEMI_METHODS",
    "SEMI_PRESETS",
    "LargeConfig",
    "LargeResult",
    "Objective",
    "PretrainConfig",
    "PretrainResult",
    "Problem",
    "RunConfig",
    "RunResult",
    "SelfTrainConfig",
    "SelfTrainResult",
    "SemiConfig",
    "SemiProblem",
    "SemiResult",
    "Subset",
    "build_problem",
    "build_semi_problem",
    "class_profile",
    "draw_self_training",
    "draw_subset",
    "from_parameters",
    "large_preset",
    "load_dataset",
    "load_large_result",
    "load_pretrain_result",
    "load_result",
    "load_self_train_result",
    "load_semi_result",
    "method_config",
    "method_name",
    "parse_changes",
    "preset",
    "run",
    "run_large",
    "run_many",
    "run_pretrain",
    "run_self_train",
    "run_semi",
    "run_semi_many",
    "semi_config",
    "semi_method_name",
    "semi_preset",
]
