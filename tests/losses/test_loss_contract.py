"""What every loss must do, checked on every row of `loss_cases`."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import CLASSES, COUNTS, FUNCTIONS, MODULES, NOT_LOSSES, WEIGHT

from lt_lib import losses

PER_CLASS = [0.3, 0.7, 1.6, 2.5]
every_function = pytest.mark.parametrize("case", FUNCTIONS, ids=str)
every_module = pytest.mark.parametrize("case", MODULES, ids=str)


def batch(size=9, spread=2.0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, CLASSES, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (size,), generator=generator)
    targets[:CLASSES] = torch.arange(CLASSES)  # every class occurs
    logits[::2].scatter_add_(
        1, targets[::2, None], torch.full((len(targets[::2]), 1), 1.5 * spread).double()
    )  # some right
    return logits.to(dtype), targets


def references(case, logits, targets):
    return [case.reference(row, target) for row, target in zip(logits.tolist(), targets.tolist(), strict=True)]


def test_every_public_loss_has_a_row():
    rows = {case.name for case in [*FUNCTIONS, *MODULES]}
    assert rows == set(losses.__all__) - NOT_LOSSES


@every_function
def test_per_sample_values_against_plain_python(case):
    logits, targets = batch()
    found = case(logits, targets, reduction="none")
    assert found.shape == targets.shape
    np.testing.assert_allclose(found, references(case, logits, targets), rtol=1e-11, atol=1e-13)


@every_function
@pytest.mark.parametrize("weighted", [False, True])
def test_reduction_contract(case, weighted):
    logits, targets = batch()
    weight = torch.tensor(PER_CLASS, dtype=torch.float64) if weighted else None
    sample_weights = [PER_CLASS[target] if weighted else 1.0 for target in targets.tolist()]
    terms = [w * loss for w, loss in zip(sample_weights, references(case, logits, targets), strict=True)]
    found = case(logits, targets, weight=weight, reduction="none")
    np.testing.assert_allclose(found, terms, rtol=1e-11, atol=1e-13)
    for options, expected in [
        ({"reduction": "sum"}, math.fsum(terms)),
        ({}, math.fsum(terms) / len(terms)),
        ({"reduction": "mean", "normalization": "batch"}, math.fsum(terms) / len(terms)),
        ({"reduction": "mean", "normalization": "weights"}, math.fsum(terms) / math.fsum(sample_weights)),
    ]:
        reduced = case(logits, targets, weight=weight, **options)
        assert reduced.shape == ()
        assert reduced.item() == pytest.approx(expected, rel=1e-11)


@every_function
def test_a_batch_of_zero_weights_gives_zero(case):
    logits, targets = batch()
    for normalization in ("batch", "weights"):
        logits.requires_grad_()
        loss = case(logits, targets, weight=torch.zeros(CLASSES), normalization=normalization)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == 0.0
        assert torch.all(gradient == 0)


@every_function
@pytest.mark.parametrize(
    "options", [{"reduction": "none"}, {"reduction": "mean"}, {"normalization": "weights"}], ids=str
)
@pytest.mark.parametrize("weighted", [False, True])
def test_first_and_second_derivatives(case, options, weighted):
    logits, targets = batch(size=5, spread=0.8)
    logits.requires_grad_()
    weight = torch.tensor(PER_CLASS, dtype=torch.float64) if weighted else None

    def loss(scores):
        return case(scores, targets, weight=weight, **options)

    assert torch.autograd.gradcheck(loss, (logits,))
    assert torch.autograd.gradgradcheck(loss, (logits,), atol=1e-4)


@every_function
def test_gradient_is_the_same_when_a_second_one_is_asked_for(case):
    logits, targets = batch()
    logits.requires_grad_()
    for options in ({"reduction": "none"}, {"weight": WEIGHT}):
        first, second = (
            torch.autograd.grad(case(logits, targets, **options).sum(), logits, create_graph=create)[0]
            for create in (False, True)
        )
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-15)


@every_function
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_finite_at_huge_logits(case, dtype):
    logits, targets = batch(dtype=torch.float64)
    top = 1e4 if dtype != torch.float16 else 6e4  # near the largest number of half precision
    logits = (logits / logits.abs().max() * top).to(dtype).requires_grad_()
    for reduction in ("mean", "none"):
        loss = case(logits, targets, reduction=reduction)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert torch.all(torch.isfinite(loss))
        assert torch.all(torch.isfinite(gradient))
        assert torch.all(loss >= 0)


@every_function
@pytest.mark.parametrize("factor", [1e4, 90.0])
def test_huge_logits_have_the_right_value(case, factor):
    # Where the naive exponentials overflow, the losses are linear or zero: compare with double precision.
    logits, targets = batch(size=40, spread=1.0)
    wide = (factor * logits).requires_grad_()
    single = wide.detach().float().requires_grad_()
    expected, found = (case(scores, targets, reduction="none") for scores in (wide, single))
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-5, atol=2e-3 * factor / 1e4)
    for scores, loss in ((wide, expected), (single, found)):
        loss.sum().backward()
        assert torch.all(torch.isfinite(scores.grad))
    np.testing.assert_allclose(single.grad, wide.grad, rtol=1e-3, atol=2e-3)


@every_function
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-6), (torch.float16, 2e-6)])
def test_narrow_logits_are_computed_in_single_precision(case, dtype, tolerance):
    logits, targets = batch(size=32, dtype=dtype)
    logits.requires_grad_()
    loss = case(logits, targets, weight=WEIGHT)
    assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad.dtype == dtype
    # The same rounded logits in double precision: what is left is the arithmetic of the loss.
    expected = case(logits.detach().double(), targets, weight=WEIGHT)
    assert expected.dtype == torch.float64
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)


@every_function
def test_any_batch_shape(case):
    logits, targets = batch(size=12)
    flat = case(logits, targets, weight=WEIGHT, reduction="none")
    stacked = case(logits.reshape(3, 4, CLASSES), targets.reshape(3, 4), weight=WEIGHT, reduction="none")
    torch.testing.assert_close(stacked, flat.reshape(3, 4))
    single = case(logits[0], targets[0], weight=WEIGHT, reduction="none")
    torch.testing.assert_close(single, flat[0])
    torch.testing.assert_close(
        case(logits.reshape(3, 4, CLASSES), targets.reshape(3, 4), weight=WEIGHT), flat.mean(), rtol=1e-12, atol=0.0
    )
    transposed = logits.t().contiguous().t()
    torch.testing.assert_close(case(transposed, targets, weight=WEIGHT, reduction="none"), flat)


@every_function
def test_inputs_and_global_generators_are_left_alone(case):
    logits, targets = batch()
    logits.requires_grad_()
    weight = WEIGHT.clone()
    copies = logits.detach().clone(), targets.clone(), weight.clone()
    arguments = {key: value.clone() for key, value in case.arguments.items() if torch.is_tensor(value)}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    case(logits, targets, weight=weight).backward()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    for now, before in zip((logits.detach(), targets, weight), copies, strict=True):
        assert torch.equal(now, before)
    assert all(torch.equal(case.arguments[key], value) for key, value in arguments.items())


@every_function
def test_backward_twice_over_a_kept_graph(case):
    logits, targets = batch()
    logits.requires_grad_()
    loss = case(logits, targets)
    first, second = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 16), st.floats(0.0, 30.0), st.floats(-50.0, 50.0))
def test_non_negative_permutable_and_shift_invariant(seed, size, spread, offset):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, CLASSES, generator=generator, dtype=torch.float64)
    targets = torch.randint(CLASSES, (size,), generator=generator)
    order = torch.randperm(size, generator=generator)
    for case in FUNCTIONS:
        loss = case(logits, targets, reduction="none")
        assert torch.all(loss >= 0), case
        torch.testing.assert_close(case(logits[order], targets[order], reduction="none"), loss[order])
        for normalization in ("batch", "weights"):
            torch.testing.assert_close(
                case(logits[order], targets[order], weight=WEIGHT, normalization=normalization),
                case(logits, targets, weight=WEIGHT, normalization=normalization),
            )
        if case.shift_invariant:
            shifted = case(logits + offset, targets, reduction="none")
            torch.testing.assert_close(shifted, loss, rtol=1e-9, atol=1e-9)


@every_module
@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "mean", "normalization": "batch"},
        {"reduction": "mean", "normalization": "weights"},
        {"reduction": "sum", "normalization": "batch"},
        {"reduction": "none", "normalization": "batch"},
    ],
    ids=str,
)
def test_a_module_is_its_function(case, options):
    logits, targets = batch()
    module = case.build(**options)
    expected = getattr(losses, case.function)(logits, targets, **case.arguments, **options)
    assert torch.equal(module(logits, targets), expected)
    assert case.build()(logits, targets) == getattr(losses, case.function)(logits, targets, **case.arguments)
    assert case.name in repr(module)
    assert "classes=4" in repr(module)
    shown = f"reduction={options['reduction']!r}, normalization={options['normalization']!r})"
    assert repr(module).endswith(shown)


@every_module
def test_a_module_has_buffers_and_nothing_to_save_or_train(case):
    module = case.build()
    buffers = dict(module.named_buffers())
    assert buffers
    assert all(buffer.dtype == torch.float64 for buffer in buffers.values())
    assert not module.state_dict()
    assert not list(module.parameters())
    logits, targets = batch(dtype=torch.bfloat16)
    assert module(logits, targets).dtype == torch.float32


PLAIN = "classes=4, beta=0.99, reduction='sum', normalization='batch'"
FOCAL = "classes=4, beta=0.99, gamma=0.5, reduction='sum', normalization='batch'"


@pytest.mark.parametrize(
    ("softmax", "sigmoid", "arguments", "shown"),
    [
        (losses.ClassBalancedSoftmaxLoss, losses.ClassBalancedSigmoidLoss, (COUNTS, 0.99), PLAIN),
        (losses.ClassBalancedSoftmaxFocalLoss, losses.ClassBalancedFocalLoss, (COUNTS, 0.99, 0.5), FOCAL),
    ],
)
def test_the_class_balanced_modules_are_built_and_shown_alike(softmax, sigmoid, arguments, shown):
    assert softmax.__init__ is sigmoid.__init__
    for build in (softmax, sigmoid):
        module = build(*arguments, reduction="sum")
        assert repr(module) == f"{build.__name__}({shown})"
        torch.testing.assert_close(module.weight, WEIGHT, rtol=0, atol=0)


BAD_CALLS = [
    ({"reduction": "average"}, ValueError, "`reduction` must be one of 'none', 'mean', 'sum', got 'average'"),
    ({"normalization": "weight"}, ValueError, "`normalization` must be one of .* Did you mean 'weights'"),
    (
        {"reduction": "sum", "normalization": "weights"},
        ValueError,
        "`normalization` must be 'batch' unless `reduction` is 'mean', got 'weights' with 'sum'",
    ),
    ({"weight": torch.ones(3)}, ValueError, r"`weight` must have shape \(4,\), got \(3,\)"),
    ({"weight": torch.tensor([1.0, 1.0, 1.0, -1.0])}, ValueError, "`weight` must be finite and at least 0"),
    (
        {"weight": torch.ones(4, requires_grad=True)},
        ValueError,
        "`weight` must be constant, got a tensor that requires a gradient",
    ),
    ({"weight": [1.0] * 4}, TypeError, "`weight` must be a floating-point tensor, got list"),
    ({"targets": torch.full((9,), 4)}, ValueError, "`targets` must be in 0 … 3, got 4"),
    ({"targets": torch.full((9,), -100)}, ValueError, "`targets` must be in 0 … 3, got -100"),
    ({"targets": torch.zeros(8).long()}, ValueError, r"`targets` must have the shape of `logits` .* got \(8,\)"),
    ({"targets": torch.zeros(9)}, TypeError, "`targets` must be an int64 tensor"),
    ({"logits": torch.ones(9, 4).long()}, TypeError, "`logits` must be a floating-point tensor"),
    (
        {"logits": torch.ones(0, 4), "targets": torch.ones(0).long()},
        ValueError,
        "`logits` must hold at least one sample",
    ),
]


@every_function
@pytest.mark.parametrize(("changes", "error", "message"), BAD_CALLS)
def test_bad_calls(case, changes, error, message):
    logits, targets = batch()
    with pytest.raises(error, match=message):
        case(**{"logits": logits, "targets": targets, **changes})


@every_module
def test_bad_modules(case):
    with pytest.raises(ValueError, match="`reduction` must be one of"):
        case.build(reduction="average")
    with pytest.raises(ValueError, match="`normalization` must be 'batch' unless"):
        case.build(reduction="none", normalization="weights")
    logits, targets = batch()
    with pytest.raises(ValueError, match="must have shape"):
        case.build()(logits[:, :3], targets.clamp_max(2))
