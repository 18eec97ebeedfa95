"""Data sets by name and splits as index lists. What works on batches, and needs torch: `augment` and `streaming`."""

from lt_lib.data.base import Dataset, MissingDataError, Split, data_hash, data_root
from lt_lib.data.extra import Extra, extra_names, load_extra
from lt_lib.data.gaussian import GaussianWorld, gaussian_world
from lt_lib.data.image_files import ImageFiles, ImageFileSet, image_file_names, load_image_files
from lt_lib.data.made_up_images import write_made_up_images
from lt_lib.data.protocols import PROTOCOLS, Protocol, SemiSplit, labelled_counts, make_split, one_protocol, tabulate
from lt_lib.data.sets import CheckReport, check, describe, load, names, overview
from lt_lib.data.splits import holdout_indices, long_tail_indices, split_hash

__all__ = [
    "PROTOCOLS",
    "CheckReport",
    "Dataset",
    "Extra",
    "GaussianWorld",
    "ImageFileSet",
    "ImageFiles",
    "MissingDataError",
    "Protocol",
    "SemiSplit",
    "Split",
    "check",
    "data_hash",
    "data_root",
    "describe",
    "extra_names",
    "gaussian_world",
    "holdout_indices",
    "image_file_names",
    "labelled_counts",
    "load",
    "load_extra",
    "load_image_files",
    "long_tail_indices",
    "make_split",
    "names",
    "one_protocol",
    "overview",
    "split_hash",
    "tabulate",
    "write_made_up_images",
]
