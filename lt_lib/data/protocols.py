"""Named protocols of semi-supervised long-tailed learning: how many samples are labelled, and how the rest is drawn.

Three families are in use, and results under one say little about results under another: the same method on the same
images differs by ten points between them. A split therefore carries the name of its protocol, with the numbers that
define it, and a table refuses rows of different names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lt_lib import counts
from lt_lib._checks import check_flag, check_integer, check_known, check_real
from lt_lib.data.base import array_hash
from lt_lib.data.splits import long_tail_indices

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = ("crest", "darp", "daso")
ROUNDINGS = ("ceil", "floor", "nearest")

# Second word of the seed: what is labelled does not depend on which images are in the long-tailed set.
_LABELLED_STREAM = 2


@dataclass(frozen=True)
class Protocol:
    r"""A rule that makes labelled and unlabelled sets.

    - "crest": one long-tailed set with `n_max` samples in the largest class; of the :math:`n_c` samples of a class,
      :math:`\lceil \beta n_c \rceil` are labelled and the others are not. Both sets share one profile.
    - "darp", "daso": two disjoint sets with profiles of their own, `n_labelled` and `n_unlabelled` samples in their
      largest classes. The two differ in these numbers only (1,500 and 3,000; 500 and 4,000). The unlabelled profile
      may have its own ratio, or run the other way.

    Args:
        family: "crest", "darp" or "daso".
        n_max: samples of the largest class, labelled or not ("crest").
        label_fraction: :math:`\beta` in (0, 1] ("crest").
        n_labelled: labelled samples of the largest class ("darp", "daso").
        n_unlabelled: unlabelled samples of the largest class ("darp", "daso").
        reversed_unlabelled: the most frequent labelled class is the rarest unlabelled one ("darp", "daso").
        rounding: "ceil", the authors' choice, "floor" or "nearest" ("crest").

    Raises:
        ValueError: a number out of range, or one that the family does not use.
        TypeError: something else than numbers, or than True and False.

    Example:
        >>> Protocol("crest", n_max=5000, label_fraction=0.1).name
        'crest (5000, 10 %)'
        >>> Protocol("daso", n_labelled=500, n_unlabelled=4000, reversed_unlabelled=True).name
        'daso (500 + 4000, reversed)'
    """

    family: str
    n_max: int = 0
    label_fraction: float = 0.0
    n_labelled: int = 0
    n_unlabelled: int = 0
    reversed_unlabelled: bool = False
    rounding: str = "ceil"

    def __post_init__(self) -> None:
        check_known(self.family, "family", FAMILIES)
        check_known(self.rounding, "rounding", ROUNDINGS)
        check_flag(self.reversed_unlabelled, "reversed_unlabelled")
        mine: dict[str, Any] = {"n_max": self.n_max}
        others: dict[str, Any] = {"n_labelled": self.n_labelled, "n_unlabelled": self.n_unlabelled}
        if self.family == "crest":
            if not 0 < check_real(self.label_fraction, "label_fraction") <= 1:
                raise ValueError(f"`label_fraction` must be in (0, 1], got {self.label_fraction}.")
            others["reversed_unlabelled"] = self.reversed_unlabelled
        else:
            mine, others = others, {**mine, "label_fraction": self.label_fraction}
        for name, value in mine.items():
            check_integer(value, name, minimum=1)
        for name, value in others.items():
            if value:
                raise ValueError(f"`{name}` must be left out with family {self.family!r}, got {value}.")
        if self.family != "crest" and self.rounding != "ceil":
            raise ValueError(f"`rounding` must be left out with family {self.family!r}, got {self.rounding!r}.")

    @property
    def name(self) -> str:
        """Family and numbers; two protocols have one name only if they are the same."""
        if self.family == "crest":
            note = "" if self.rounding == "ceil" else f", {self.rounding}"
            # In decimal numbers, since a fraction times 100 has rounding errors, and a short form would hide digits.
            percent = (100 * Decimal(repr(float(self.label_fraction)))).normalize()
            return f"crest ({self.n_max}, {percent:f} %{note})"
        note = ", reversed" if self.reversed_unlabelled else ""
        return f"{self.family} ({self.n_labelled} + {self.n_unlabelled}{note})"


# As in the papers, on CIFAR-10; CIFAR-100 has other sizes.
PROTOCOLS: dict[str, Protocol] = {
    "crest-10": Protocol("crest", n_max=5000, label_fraction=0.1),
    "crest-30": Protocol("crest", n_max=5000, label_fraction=0.3),
    "darp": Protocol("darp", n_labelled=1500, n_unlabelled=3000),
    "daso": Protocol("daso", n_labelled=500, n_unlabelled=4000),
}


@dataclass(frozen=True, eq=False)
class SemiSplit:
    """Labelled and unlabelled samples of a data set, as disjoint index lists.

    Attributes:
        labelled: int64 `(labelled,)`.
        unlabelled: int64 `(unlabelled,)`; can be empty if everything is labelled.
        protocol: name of the protocol.
        class_counts: labelled samples per class, int64 `(classes,)`.
        unlabelled_counts: unlabelled samples per class. Known because the set was made, not to be trained on.
        hash: SHA-256 of protocol and both lists.
    """

    labelled: np.ndarray
    unlabelled: np.ndarray
    protocol: str
    class_counts: np.ndarray
    unlabelled_counts: np.ndarray
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        name = np.frombuffer(self.protocol.encode(), dtype=np.uint8)
        object.__setattr__(self, "hash", array_hash(name, self.labelled, self.unlabelled))


def labelled_counts(class_counts: ArrayLike, label_fraction: float, *, rounding: str = "ceil") -> np.ndarray:
    r"""Labelled samples per class under the "crest" family, :math:`\lceil \beta n_c \rceil`.

    Args:
        class_counts: :math:`n_c`, samples per class `(classes,)`.
        label_fraction: :math:`\beta` in (0, 1].
        rounding: "ceil", "floor" or "nearest".

    Returns:
        int64 `(classes,)`.

    Raises:
        ValueError: `label_fraction` is out of range, or a class ends up without a labelled sample.

    Example:
        >>> labelled_counts([5000, 387, 50], 0.1).tolist()
        [500, 39, 5]
    """
    sizes = counts.listed_counts(np.asarray(class_counts))
    if not 0 < check_real(label_fraction, "label_fraction") <= 1:
        raise ValueError(f"`label_fraction` must be in (0, 1], got {label_fraction}.")
    check_known(rounding, "rounding", ROUNDINGS)
    # 0.07 * 100 is a bit above 7 in floating point, and must not become 8.
    exact = np.round(sizes * label_fraction, 9)
    rounded = {"ceil": np.ceil(exact), "floor": np.floor(exact), "nearest": np.round(exact)}
    found = rounded[rounding].astype(np.int64)
    if (found == 0).any():
        label = int(np.argmin(found))
        raise ValueError(
            "`label_fraction` must leave a labelled image in every class, "
            f"got {label_fraction} of {sizes[label]} with rounding {rounding!r} for class {label}."
        )
    return found


def make_split(
    protocol: Protocol,
    targets: ArrayLike,
    num_classes: int,
    imbalance_ratio: float,
    *,
    subset_seed: int = 0,
    split_seed: int = 0,
    unlabelled_imbalance_ratio: float | None = None,
    class_order: ArrayLike | None = None,
) -> SemiSplit:
    """Draw the labelled and the unlabelled set of a protocol with exponential profiles.

    CReST keeps the long-tailed set fixed and repeats the division into labelled and unlabelled samples: `subset_seed`
    is one number there, `split_seed` the fold. In the other families `split_seed` draws both sets.

    Args:
        protocol: a value of `PROTOCOLS`, or one's own.
        targets: class indices of the available samples.
        num_classes: C.
        imbalance_ratio: largest / smallest class of the labelled set (and of the whole one under "crest"), >= 1.
        subset_seed: draw of the long-tailed set ("crest"), >= 0; it changes nothing in the other families.
        split_seed: draw of what is labelled.
        unlabelled_imbalance_ratio: of the unlabelled set ("darp", "daso"); None for the labelled one's.
        class_order: permutation `(classes,)` whose entry `rank` is the class with that rank of frequency; None keeps
            the native order.

    Returns:
        The split, class after class in order of frequency.

    Raises:
        ValueError: too few samples, a class without labelled sample, a negative seed, or a ratio that the family does
            not use.

    Example:
        >>> split = make_split(Protocol("crest", n_max=50, label_fraction=0.1), np.repeat([0, 1], 50), 2, 10.0)
        >>> split.class_counts.tolist(), split.unlabelled_counts.tolist()
        ([5, 1], [45, 4])
    """
    labels = np.asarray(targets)
    check_integer(subset_seed, "subset_seed", minimum=0)
    check_integer(split_seed, "split_seed", minimum=0)
    order = np.arange(num_classes) if class_order is None else np.asarray(class_order)
    if protocol.family == "crest":
        if unlabelled_imbalance_ratio is not None:
            raise ValueError(
                "`unlabelled_imbalance_ratio` must be left out with family 'crest', where one profile serves both "
                f"sets, got {unlabelled_imbalance_ratio}."
            )
        sizes = counts.exponential_counts(protocol.n_max, num_classes, imbalance_ratio)
        known = labelled_counts(sizes, protocol.label_fraction, rounding=protocol.rounding)
        whole = long_tail_indices(labels, sizes, seed=subset_seed, class_order=class_order)
        parts = np.split(whole, np.cumsum(sizes)[:-1])
        shuffled = [
            np.random.default_rng([split_seed, label, _LABELLED_STREAM]).permutation(part)
            for label, part in zip(order, parts, strict=True)
        ]
        labelled = np.concatenate([part[:number] for part, number in zip(shuffled, known, strict=True)])
        unlabelled = np.concatenate([part[number:] for part, number in zip(shuffled, known, strict=True)])
    else:
        known = counts.exponential_counts(protocol.n_labelled, num_classes, imbalance_ratio)
        ratio = imbalance_ratio if unlabelled_imbalance_ratio is None else unlabelled_imbalance_ratio
        hidden = counts.exponential_counts(protocol.n_unlabelled, num_classes, ratio)
        if protocol.reversed_unlabelled:
            hidden = hidden[::-1]
        both = long_tail_indices(labels, known + hidden, seed=split_seed, class_order=class_order)
        parts = np.split(both, np.cumsum(known + hidden)[:-1])
        labelled = np.concatenate([part[:number] for part, number in zip(parts, known, strict=True)])
        unlabelled = np.concatenate([part[number:] for part, number in zip(parts, known, strict=True)])
    return SemiSplit(
        labelled=labelled.astype(np.int64),
        unlabelled=unlabelled.astype(np.int64),
        protocol=protocol.name,
        class_counts=np.bincount(labels[labelled], minlength=num_classes).astype(np.int64),
        unlabelled_counts=np.bincount(labels[unlabelled], minlength=num_classes).astype(np.int64),
    )


def one_protocol(rows: Iterable[Mapping[str, Any]]) -> str:
    """Name of the protocol that all result rows share.

    Args:
        rows: mappings with a key "protocol", at least one.

    Raises:
        ValueError: no row, a row without a protocol, or two protocols.

    Example:
        >>> one_protocol([{"protocol": "crest (5000, 10 %)"}, {"protocol": "crest (5000, 10 %)"}])
        'crest (5000, 10 %)'
    """
    names: dict[str, None] = {}
    for position, row in enumerate(rows):
        name = row.get("protocol")
        if not isinstance(name, str) or not name:
            raise ValueError(f"`rows` must each name their protocol, got {name!r} in row {position}.")
        names[name] = None
    if not names:
        raise ValueError("`rows` must hold at least one result, got none.")
    if len(names) > 1:
        raise ValueError(
            f"`rows` must come from one protocol, got {' and '.join(map(repr, names))}: "
            "results under different protocols are not comparable."
        )
    return next(iter(names))


def tabulate(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One table of results that belong together; refuses to mix protocols.

    Args:
        rows: as for `one_protocol`.

    Returns:
        A data frame with a column per key, in the order of the rows.

    Raises:
        ValueError: as for `one_protocol`.
    """
    import pandas as pd

    content = [dict(row) for row in rows]
    one_protocol(content)
    return pd.DataFrame(content)
