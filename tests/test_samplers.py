"""Re-sampling: probabilities against per-sample weights, drawn histograms against probabilities, guards."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset

from lt_lib import samplers
from lt_lib.counts import effective_number

COUNTS = np.array([500, 120, 30, 5])
SCHEMES = [
    ("uniform", {}),
    ("inverse", {}),
    ("sqrt", {}),
    ("effective_number", {"beta": 0.99}),
    ("progressive", {"progress": 0.3}),
]


def targets_for(class_counts):
    # Shuffled, because sorted targets would hide an index that is not mapped back to its sample.
    order = np.random.default_rng(0).permutation(int(np.sum(class_counts)))
    return torch.from_numpy(np.repeat(np.arange(len(class_counts)), class_counts)[order])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def p_value(drawn_classes, probabilities):
    observed = np.bincount(drawn_classes, minlength=len(probabilities))
    reachable = np.asarray(probabilities) > 0
    assert observed[~reachable].sum() == 0
    expected = np.asarray(probabilities)[reachable] * len(drawn_classes)
    return stats.chisquare(observed[reachable], expected).pvalue


def naive_class_probabilities(class_counts, scheme, beta=None, progress=None):
    """Sum the weights of the single samples class by class, without the closed form."""
    total, classes = sum(class_counts), len(class_counts)
    mass = []
    for n in class_counts:
        weight = {
            "uniform": 1.0,
            "inverse": 1.0 / n,
            "sqrt": n**-0.5,
            "effective_number": 1.0 / sum((beta or 0.0) ** j for j in range(n)),
            "progressive": (1 - (progress or 0)) / total + (progress or 0) / classes / n,
        }[scheme]
        mass.append(sum(weight for _ in range(n)))
    return np.array(mass) / sum(mass)


@pytest.mark.parametrize(("scheme", "options"), SCHEMES)
def test_probabilities_equal_summed_sample_weights(scheme, options):
    given = samplers.sampling_probabilities(COUNTS, scheme, **options)
    np.testing.assert_allclose(given, naive_class_probabilities(COUNTS, scheme, **options), rtol=1e-12)


def test_schemes_differ_from_each_other():
    vectors = [samplers.sampling_probabilities(COUNTS, scheme, **options) for scheme, options in SCHEMES]
    for i, first in enumerate(vectors):
        for second in vectors[i + 1 :]:
            assert np.abs(first - second).max() > 0.01


def test_limits_of_beta_and_progress():
    uniform = samplers.sampling_probabilities(COUNTS, "uniform")
    inverse = samplers.sampling_probabilities(COUNTS, "inverse")
    np.testing.assert_allclose(uniform, COUNTS / COUNTS.sum())
    np.testing.assert_allclose(inverse, 0.25)
    for scheme, name in (("effective_number", "beta"), ("progressive", "progress")):
        np.testing.assert_allclose(samplers.sampling_probabilities(COUNTS, scheme, **{name: 0.0}), uniform)
        np.testing.assert_allclose(samplers.sampling_probabilities(COUNTS, scheme, **{name: 1.0}), inverse)


@pytest.mark.parametrize(("scheme", "options"), SCHEMES)
def test_empty_class_is_never_drawn(scheme, options):
    with_gap = samplers.sampling_probabilities([50, 0, 10], scheme, **options)
    without = samplers.sampling_probabilities([50, 10], scheme, **options)
    assert with_gap[1] == 0
    np.testing.assert_allclose(with_gap[[0, 2]], without)


@pytest.mark.parametrize(("scheme", "options"), SCHEMES)
def test_sample_probabilities_sum_per_class(scheme, options):
    targets = targets_for(COUNTS)
    per_sample = samplers.sample_probabilities(targets, COUNTS, scheme, **options)
    per_class = np.bincount(targets.numpy(), weights=per_sample)
    np.testing.assert_allclose(per_class, samplers.sampling_probabilities(COUNTS, scheme, **options))


def test_sample_probabilities_of_a_subset_keep_the_weights_of_the_whole():
    targets = np.array([0, 3, 3])
    per_sample = samplers.sample_probabilities(targets, COUNTS, "inverse")
    assert per_sample.sum() == pytest.approx(1)
    assert per_sample[1] / per_sample[0] == pytest.approx(500 / 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: samplers.sampling_probabilities(COUNTS, "invers"), ValueError, "`scheme` must be one of.*inverse"),
        (lambda: samplers.sampling_probabilities(COUNTS, "effective_number"), ValueError, "`beta` must be given"),
        (lambda: samplers.sampling_probabilities(COUNTS, "sqrt", beta=0.9), ValueError, "`beta` must be None"),
        (lambda: samplers.sampling_probabilities(COUNTS, "progressive"), ValueError, "`progress` must be given"),
        (lambda: samplers.sampling_probabilities(COUNTS, "uniform", progress=0.5), ValueError, "`progress` must be No"),
        (lambda: samplers.sampling_probabilities(COUNTS, "effective_number", beta=1.5), ValueError, "`beta` must be"),
        (lambda: samplers.sampling_probabilities(COUNTS, "progressive", progress=-1), ValueError, "`progress` must be"),
        (lambda: samplers.sampling_probabilities([3, -1], "uniform"), ValueError, "`class_counts` must be"),
        (lambda: samplers.sample_probabilities([0, 4], COUNTS, "uniform"), ValueError, r"in \[0, 3\], got 4"),
        (lambda: samplers.sample_probabilities([0, 1], [3, 0], "uniform"), ValueError, "got 0 for class 1"),
        (lambda: samplers.sample_probabilities([0.5], [3], "uniform"), TypeError, "`targets` must be integer"),
        (lambda: samplers.sample_probabilities([], [3], "uniform"), ValueError, "`targets` must be a non-empty"),
        (lambda: samplers.sample_probabilities([-1], [3], "uniform"), ValueError, "`targets` must be.*got -1"),
    ],
)
def test_probability_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("scheme", "options"), SCHEMES)
def test_drawn_histogram_matches_probabilities(scheme, options):
    targets = targets_for(COUNTS)
    probabilities = samplers.sampling_probabilities(COUNTS, scheme, **options)
    indices = samplers.draw_indices(targets, probabilities, 20_000, generator(1))
    assert indices.dtype == torch.int64
    assert p_value(targets[indices].numpy(), probabilities) > 0.01


def test_histogram_test_rejects_the_wrong_scheme():
    targets = targets_for(COUNTS)
    wrong = samplers.sampling_probabilities(COUNTS, "effective_number", beta=0.98)
    right = samplers.sampling_probabilities(COUNTS, "effective_number", beta=0.99)
    indices = samplers.draw_indices(targets, right, 20_000, generator(1))
    assert p_value(targets[indices].numpy(), wrong) < 1e-6


def test_samples_within_a_class_are_equally_likely():
    targets = targets_for([40, 10])
    indices = samplers.draw_indices(targets, [0.0, 1.0], 5000, generator(2))
    members = torch.nonzero(targets == 1).flatten()
    hits = torch.bincount(indices, minlength=50)[members]
    assert hits.sum() == 5000
    assert stats.chisquare(hits.numpy()).pvalue > 0.01


def test_unnormalised_and_tensor_probabilities_draw_the_same():
    targets = targets_for([40, 10])
    as_list = samplers.draw_indices(targets, [3.0, 1.0], 100, generator(3))
    as_tensor = samplers.draw_indices(targets, torch.tensor([0.75, 0.25]), 100, generator(3))
    assert torch.equal(as_list, as_tensor)


@pytest.mark.parametrize(
    ("targets", "probabilities", "num_samples", "error", "message"),
    [
        (torch.tensor([0, 1]), [0.5, 0.5], 0, ValueError, "`num_samples` must be an integer of at least 1"),
        (torch.tensor([0, 1]), [0.5, 0.5], 2.0, TypeError, "`num_samples` must be an integer"),
        (torch.tensor([0, 1]), [0.5, -0.5], 2, ValueError, "`class_probabilities` must be >= 0"),
        (torch.tensor([0, 1]), [0.0, 0.0], 2, ValueError, "`class_probabilities` must be.*not all zero"),
        (torch.tensor([0, 1]), [0.5, float("nan")], 2, ValueError, "`class_probabilities` must be.*finite"),
        (torch.tensor([0, 1]), [[0.5, 0.5]], 2, ValueError, "`class_probabilities` must be a non-empty vector"),
        (
            torch.tensor([0, 2]),
            [0.5, 0.2, 0.3],
            2,
            ValueError,
            r"`class_probabilities` must be 0.*got positive for \[1\]",
        ),
        (torch.tensor([0, 2]), [0.5, 0.5], 2, ValueError, r"`targets` must be class indices in \[0, 1\], got 0 to 2"),
        (torch.tensor([0.0, 1.0]), [0.5, 0.5], 2, TypeError, "`targets` must be an integer tensor"),
        (torch.tensor([[0, 1]]), [0.5, 0.5], 2, ValueError, "`targets` must be a non-empty vector"),
    ],
)
def test_draw_errors(targets, probabilities, num_samples, error, message):
    with pytest.raises(error, match=message):
        samplers.draw_indices(targets, probabilities, num_samples, generator())


def test_rng_on_another_device_is_refused():
    class ElsewhereGenerator:
        device = torch.device("meta")

    with pytest.raises(ValueError, match="`rng` must be a generator on cpu, got one on meta"):
        samplers.draw_indices(torch.tensor([0, 1]), [0.5, 0.5], 2, ElsewhereGenerator())
    with pytest.raises(ValueError, match="`rng` must be a generator on cpu, got one on meta"):
        samplers.ClassSampler(torch.tensor([0, 1]), "uniform", 2, rng=ElsewhereGenerator())


def test_sampler_in_a_loader_balances_the_classes():
    targets = targets_for(COUNTS)
    sampler = samplers.ClassSampler(targets, "inverse", 4000, rng=generator(4))
    loader = DataLoader(TensorDataset(targets), batch_size=500, sampler=sampler, generator=generator(9))
    seen = torch.cat([batch for (batch,) in loader])
    assert len(sampler) == len(seen) == 4000
    assert p_value(seen.numpy(), np.full(4, 0.25)) > 0.01


def test_sampler_repeats_with_the_seed_and_moves_on_between_epochs():
    targets = targets_for(COUNTS)
    first, second = (samplers.ClassSampler(targets, "sqrt", 50, rng=generator(5)) for _ in range(2))
    epochs = [list(first), list(first)]
    assert epochs == [list(second), list(second)]
    assert epochs[0] != epochs[1]
    assert list(samplers.ClassSampler(targets, "sqrt", 50, rng=generator(6))) != epochs[0]


def test_sampler_passes_beta_and_moves_progress():
    targets = targets_for(COUNTS)
    by_beta = samplers.ClassSampler(targets, "effective_number", 9, rng=generator(), beta=0.9)
    expected = COUNTS / effective_number(COUNTS, 0.9)
    np.testing.assert_allclose(by_beta.class_probabilities, expected / expected.sum())
    progressive = samplers.ClassSampler(targets.numpy(), "progressive", 9000, rng=generator(), progress=0.0)
    start = targets[list(progressive)].numpy()
    progressive.set_progress(1.0)
    assert p_value(start, COUNTS / COUNTS.sum()) > 0.01
    assert p_value(targets[list(progressive)].numpy(), np.full(4, 0.25)) > 0.01
    with pytest.raises(ValueError, match="`progress` must be None"):
        by_beta.set_progress(0.5)
    with pytest.raises(ValueError, match="`progress` must be"):
        progressive.set_progress(1.5)
    with pytest.raises(ValueError, match="`num_samples` must be"):
        samplers.ClassSampler(targets, "uniform", 0, rng=generator())


def test_global_generators_are_untouched():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 the global state is what this test watches
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    targets = targets_for(COUNTS)
    list(samplers.ClassSampler(targets, "inverse", 10, rng=generator()))
    inputs = np.random.default_rng(0).normal(size=(len(targets), 2))
    samplers.oversample(inputs, targets, seed=0)
    samplers.undersample(inputs, targets, seed=0)
    samplers.smote(inputs, targets, seed=0, k_neighbors=2)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


def images(dtype=np.uint8):
    """Each image is constant with its index as value, so that its origin can be read off."""
    values = np.arange(18, dtype=dtype)
    return np.broadcast_to(values[:, None, None, None], (18, 4, 4, 3)).copy(), np.repeat([0, 1, 2], [10, 6, 2])


def test_oversample_repeats_only_within_the_class():
    inputs, targets = images()
    new_inputs, new_targets = samplers.oversample(torch.from_numpy(inputs), targets, seed=3)
    assert new_inputs.dtype == np.uint8
    assert new_inputs.shape == (30, 4, 4, 3)
    assert np.bincount(new_targets).tolist() == [10, 10, 10]
    assert np.array_equal(new_inputs[:18], inputs)
    origin = new_inputs[:, 0, 0, 0].astype(int)
    assert np.array_equal(targets[origin], new_targets)


def test_undersample_keeps_distinct_samples_of_each_class():
    inputs, targets = images()
    new_inputs, new_targets = samplers.undersample(inputs, targets, seed=3)
    origin = new_inputs[:, 0, 0, 0].astype(int)
    assert np.bincount(new_targets).tolist() == [2, 2, 2]
    assert len(set(origin)) == 6
    assert np.array_equal(targets[origin], new_targets)


@pytest.mark.parametrize("resample", [samplers.oversample, samplers.undersample])
def test_resampling_follows_the_seed(resample):
    inputs, targets = images()
    draws = [resample(inputs, targets, seed=seed)[0] for seed in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_smote_points_lie_on_segments_within_the_class():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(18, 2, 3)).astype(np.float32)
    targets = np.repeat([0, 1], [12, 6])
    new_inputs, new_targets = samplers.smote(inputs, targets, seed=1, k_neighbors=2)
    assert new_inputs.dtype == np.float32
    assert new_inputs.shape == (24, 2, 3)
    assert np.array_equal(new_inputs[:18], inputs)
    assert new_targets[18:].tolist() == [1] * 6
    members = inputs[12:].reshape(6, -1).astype(np.float64)
    for point in new_inputs[18:].reshape(6, -1).astype(np.float64):
        off_segment = []
        for i, start in enumerate(members):
            by_distance = np.argsort(np.linalg.norm(members - start, axis=1))
            for end in members[by_distance[by_distance != i][:2]]:
                along = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
                off_segment.append(np.linalg.norm(point - start - along * (end - start)))
        assert min(off_segment) < 1e-5


def test_smote_seed_and_neighbours_change_the_result():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(18, 3)), np.repeat([0, 1], [12, 6])
    base = samplers.smote(inputs, targets, seed=1)[0]
    assert np.array_equal(base, samplers.smote(inputs, targets, seed=1)[0])
    assert not np.array_equal(base, samplers.smote(inputs, targets, seed=2)[0])
    assert not np.array_equal(base, samplers.smote(inputs, targets, seed=1, k_neighbors=1)[0])


def test_smote_refuses_integer_images():
    inputs, targets = images()
    with pytest.raises(TypeError, match="`inputs` must be floating point for SMOTE, got uint8.*float32"):
        samplers.smote(inputs, targets, seed=0, k_neighbors=1)


def test_smote_small_class_policy():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(17, 3)), np.repeat([0, 1, 2], [9, 5, 3])
    with pytest.raises(ValueError, match="got k=5 with n=3 for class 2.*shrink"):
        samplers.smote(inputs, targets, seed=0)
    with pytest.raises(ValueError, match="got k=3 with n=3 for class 2"):  # a sample is not its own neighbour
        samplers.smote(inputs, targets, seed=0, k_neighbors=3)
    shrunk = samplers.smote(inputs, targets, seed=0, small_class="shrink")
    assert np.bincount(shrunk[1]).tolist() == [9, 9, 9]
    np.testing.assert_array_equal(shrunk[0], samplers.smote(inputs, targets, seed=0, k_neighbors=2)[0])
    large_enough = samplers.smote(inputs, targets, seed=0, k_neighbors=1, small_class="shrink")
    np.testing.assert_array_equal(large_enough[0], samplers.smote(inputs, targets, seed=0, k_neighbors=1)[0])


@pytest.mark.parametrize("small_class", ["raise", "shrink"])
def test_smote_refuses_a_class_with_one_sample(small_class):
    inputs, targets = np.zeros((4, 2)), [0, 0, 0, 1]
    with pytest.raises(ValueError, match="at least 2 samples per class for SMOTE, got n=1 for class 1"):
        samplers.smote(inputs, targets, seed=0, k_neighbors=1, small_class=small_class)


def test_smote_leaves_a_balanced_set_alone():
    inputs, targets = np.arange(8.0).reshape(4, 2), [0, 0, 1, 1]
    same, _ = samplers.smote(inputs, targets, seed=0)
    np.testing.assert_array_equal(same, inputs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k_neighbors": 0}, ValueError, "`k_neighbors` must be an integer of at least 1"),
        ({"small_class": "skip"}, ValueError, "`small_class` must be one of"),
    ],
)
def test_smote_option_errors(options, error, message):
    with pytest.raises(error, match=message):
        samplers.smote(np.zeros((4, 2)), [0, 0, 1, 1], seed=0, **options)


@pytest.mark.parametrize("resample", [samplers.oversample, samplers.undersample, samplers.smote])
def test_resampling_input_errors(resample):
    with pytest.raises(ValueError, match="`inputs` must have one row per target"):
        resample(np.zeros((3, 2)), [0, 1], seed=0)
    with pytest.raises(ValueError, match="`targets` must hold at least two classes, got only class 1"):
        resample(np.zeros((2, 2)), [1, 1], seed=0)
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=rf"`seed` must be an integer in \[0, 4294967295\], got {seed}"):
            resample(np.zeros((4, 2)), [0, 0, 1, 1], seed=seed)


@pytest.mark.parametrize("resample", [samplers.oversample, samplers.undersample, samplers.smote])
@pytest.mark.parametrize(("dtype", "comes_back"), [("bfloat16", "float32"), ("float16", "float16")])
def test_half_precision_comes_back_in_a_type_that_numpy_has(resample, dtype, comes_back):
    inputs = torch.arange(10.0).reshape(5, 2).to(getattr(torch, dtype)).requires_grad_()
    found, _ = resample(inputs, [0, 0, 0, 1, 1], seed=0, **({"k_neighbors": 1} if resample is samplers.smote else {}))
    assert found.dtype == comes_back
    if resample is samplers.oversample:
        assert found[:5].tolist() == inputs.tolist()
