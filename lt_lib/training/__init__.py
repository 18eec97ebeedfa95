"""Training: the supervised loop, its stacked form, schedules, checkpoints, and placement on devices."""

from lt_lib.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from lt_lib.training.loop import History, NonFiniteLossError, fit, predict, shuffled
from lt_lib.training.placement import computes_bfloat16, describe_device, make_fabric, resolve_device
from lt_lib.training.schedules import change_epoch, deferred, step_learning_rate
from lt_lib.training.stacked import Member, fit_stacked, predict_stacked

__all__ = [
    "CheckpointError",
    "History",
    "Member",
    "NonFiniteLossError",
    "change_epoch",
    "computes_bfloat16",
    "deferred",
    "describe_device",
    "fit",
    "fit_stacked",
    "load_checkpoint",
    "make_fabric",
    "predict",
    "predict_stacked",
    "resolve_device",
    "save_checkpoint",
    "shuffled",
    "step_learning_rate",
]
