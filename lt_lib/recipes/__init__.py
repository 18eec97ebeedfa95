"""The composition root: a `RunConfig` becomes a trained and measured model."""

from lt_lib.recipes.build import Objective, Problem, Subset, build_problem, class_profile, draw_subset, load_dataset
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.methods import METHODS, PRESETS, method_config, method_name, preset
from lt_lib.recipes.result import RunResult, load_result
from lt_lib.recipes.run import run, run_many

__all__ = [
    "METHODS",
    "PRESETS",
    "Objective",
    "Problem",
    "RunConfig",
    "RunResult",
    "Subset",
    "build_problem",
    "class_profile",
    "draw_subset",
    "load_dataset",
    "load_result",
    "method_config",
    "method_name",
    "preset",
    "run",
    "run_many",
]
