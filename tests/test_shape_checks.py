"""The doctests run with a type checker on every call of the library; here, that this checker refuses what is wrong."""

import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import jaxtyped
from shape_checks import checked

from lt_lib._typing import Counts, Logits, PerSample, Targets


def test_wrong_axes_are_refused():
    @jaxtyped(typechecker=checked)
    def per_sample(logits: Logits, targets: Targets) -> PerSample:
        return logits.sum(dim=-1) if len(targets) == len(logits) else logits

    logits = torch.zeros(4, 3)
    assert per_sample(logits, torch.zeros(4, dtype=torch.int64)).shape == (4,)
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
        per_sample(logits, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
        per_sample(logits, torch.zeros(4))


def test_a_wrong_result_is_refused():
    @jaxtyped(typechecker=checked)
    def halves(counts: Counts) -> Counts:
        return counts / 2  # type: ignore[return-value]

    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        halves(np.array([3, 1]))


def test_an_int_is_a_float():
    @jaxtyped(typechecker=checked)
    def double(value: float) -> float:
        return 2 * value

    assert double(2) == 4
    with pytest.raises(jaxtyping.TypeCheckError):
        double("2")
