"""Data sets by name and splits as index lists. Batch augmentation, which needs torch, is in `lt_lib.data.augment`."""

from lt_lib.data.base import Dataset, MissingDataError, Split, data_hash, data_root
from lt_lib.data.gaussian import GaussianWorld, gaussian_world
from lt_lib.data.sets import CheckReport, check, describe, load, names, overview
from lt_lib.data.splits import holdout_indices, long_tail_indices, split_hash

__all__ = [
    "CheckReport",
    "Dataset",
    "GaussianWorld",
    "MissingDataError",
    "Split",
    "check",
    "data_hash",
    "data_root",
    "describe",
    "gaussian_world",
    "holdout_indices",
    "load",
    "long_tail_indices",
    "names",
    "overview",
    "split_hash",
]
