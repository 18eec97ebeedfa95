"""Training: the supervised loop, its stacked form, schedules, checkpoints, and placement on devices."""

from lt_lib.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lt_lib.training.consistency import DistributionAlignment, align_predictions, fixmatch, mean_teacher, pseudo_label
from lt_lib.training.crest import (
    Generation,
    GenerationRecord,
    Outcome,
    Plan,
    Selection,
    alignment_target,
    alignment_temperature,
    exponential_profile,
    inclusion_rates,
    run_generations,
    select_pseudo_labels,
)
from lt_lib.training.diagnostics import generation_rows, kl_divergence, pseudo_label_report, selection_precision
from lt_lib.training.ema import WeightAverage
from lt_lib.training.loop import History, NonFiniteLossError, fit, predict, shuffled
from lt_lib.training.placement import computes_bfloat16, describe_device, make_fabric, resolve_device
from lt_lib.training.schedules import change_epoch, deferred, step_learning_rate
from lt_lib.training.semi import (
    SemiHistory,
    Stream,
    cosine_learning_rate,
    fit_semi,
    fit_semi_stacked,
    predict_pool,
    ramp_up,
)
from lt_lib.training.stacked import Member, fit_stacked, predict_stacked

__all__ = [
    "CheckpointError",
    "DistributionAlignment",
    "Generation",
    "GenerationRecord",
    "History",
    "Member",
    "NonFiniteLossError",
    "Outcome",
    "Plan",
    "Selection",
    "SemiHistory",
    "Stream",
    "WeightAverage",
    "align_predictions",
    "alignment_target",
    "alignment_temperature",
    "change_epoch",
    "computes_bfloat16",
    "cosine_learning_rate",
    "deferred",
    "describe_device",
    "exponential_profile",
    "fit",
    "fit_semi",
    "fit_semi_stacked",
    "fit_stacked",
    "fixmatch",
    "generation_rows",
    "inclusion_rates",
    "kl_divergence",
    "load_checkpoint",
    "make_fabric",
    "mean_teacher",
    "predict",
    "predict_pool",
    "predict_stacked",
    "pseudo_label",
    "pseudo_label_report",
    "ramp_up",
    "resolve_device",
    "run_generations",
    "save_checkpoint",
    "select_pseudo_labels",
    "selection_precision",
    "shuffled",
    "step_learning_rate",
]
