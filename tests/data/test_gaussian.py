import numpy as np
import pytest
from scipy import stats

from lt_lib.data import GaussianWorld, data_hash, gaussian_world, load
from lt_lib.data.gaussian import FROZEN_HASHES, FROZEN_SEPARATIONS, find_separation


@pytest.mark.parametrize("bayes_error", [0.05, 0.10, 0.20])
def test_frozen_worlds_have_their_hash_and_their_bayes_error(bayes_error):
    world = gaussian_world(bayes_error=bayes_error)
    assert world.means.shape == (10, 3, 32)
    assert world.hash() == FROZEN_HASHES[bayes_error]
    split = world.sample(4000, np.random.default_rng(11))
    mistakes = (world.bayes_predict(split.inputs) != split.targets).mean()
    assert abs(mistakes - bayes_error) < 0.01
    estimate, standard_error = world.bayes_error(np.random.default_rng(12), samples_per_class=4000)
    assert abs(estimate - bayes_error) < 0.005
    # Mistakes counted on other samples are a second estimate of the same number.
    assert abs(estimate - mistakes) < 4 * np.hypot(standard_error, np.sqrt(mistakes * (1 - mistakes) / len(split)))


def test_frozen_separations_are_what_the_search_finds():
    directions = np.random.default_rng(0).standard_normal((10, 3, 32))
    assert find_separation(directions, 0.10) == pytest.approx(FROZEN_SEPARATIONS[0.10], abs=1e-4)
    np.testing.assert_allclose(gaussian_world().means, FROZEN_SEPARATIONS[0.10] * directions)


def test_bayes_error_of_two_clusters_is_the_normal_tail():
    # Two classes at distance 2a along one axis: error Φ(−a), the textbook case.
    world = GaussianWorld(np.array([[[1.3, 0.0]], [[-1.3, 0.0]]]))
    estimate, standard_error = world.bayes_error(np.random.default_rng(0), samples_per_class=20_000)
    assert abs(estimate - stats.norm.cdf(-1.3)) < 4 * standard_error
    assert 0 < standard_error < 0.002


def test_bayes_error_with_a_prior_matches_integration():
    world = GaussianWorld(np.array([[[1.0]], [[-1.0]]]))
    prior = np.array([0.9, 0.1])
    grid = np.linspace(-9, 9, 20_001)
    joint = prior[:, None] * stats.norm.pdf(grid[None], loc=[[1.0], [-1.0]])
    exact = np.trapezoid(joint.min(axis=0), grid)
    estimate, standard_error = world.bayes_error(np.random.default_rng(0), samples_per_class=20_000, class_prior=prior)
    assert abs(estimate - exact) < 4 * standard_error
    balanced, _ = world.bayes_error(np.random.default_rng(0), samples_per_class=20_000)
    assert estimate < balanced / 1.5


def test_standard_error_is_the_spread_of_repeated_estimates():
    world = GaussianWorld(np.array([[[1.0]], [[-1.0]], [[0.5]]]))
    rng = np.random.default_rng(0)
    runs = [world.bayes_error(rng, samples_per_class=50, class_prior=[0.6, 0.3, 0.1]) for _ in range(400)]
    estimates, standard_errors = np.array(runs).T
    # A standard deviation from 400 values is itself known within about 3.5 %.
    assert np.mean(standard_errors) == pytest.approx(estimates.std(), rel=0.12)


def test_log_likelihoods_match_scipy_up_to_a_shift_per_sample(rng):
    world = gaussian_world(seed=3, num_classes=4, dim=5, separation=1.5, clusters=2)
    points = rng.standard_normal((6, 5)) * 3
    expected = np.array(
        [
            [
                np.log(np.mean([stats.multivariate_normal(mean).pdf(point) for mean in clusters]))
                for clusters in world.means
            ]
            for point in points
        ]
    )
    found = world.log_likelihoods(points)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], rtol=1e-9, atol=1e-9)
    prior = np.array([0.7, 0.1, 0.1, 0.1])
    np.testing.assert_array_equal(world.bayes_predict(points, prior), (expected + np.log(prior)).argmax(axis=1))
    assert (world.bayes_predict(points, [0, 0, 0, 1.0]) == 3).all()


def test_log_likelihoods_are_finite_far_out():
    world = gaussian_world(separation=100.0, num_classes=3, dim=4)
    assert np.isfinite(world.log_likelihoods(np.full((1, 4), 1e6))).all()


def test_log_likelihoods_in_chunks_are_the_same(rng, monkeypatch):
    world = gaussian_world(num_classes=3, dim=4, separation=1.0)
    points = rng.standard_normal((23, 4))
    whole = world.log_likelihoods(points)
    monkeypatch.setattr("lt_lib.data.gaussian._CHUNK", 5)
    np.testing.assert_allclose(world.log_likelihoods(points), whole)


def test_sample_has_the_counts_the_means_and_unit_noise():
    world = gaussian_world(seed=1, num_classes=3, dim=4, separation=3.0)
    split = world.sample([20_000, 0, 100], np.random.default_rng(0))
    assert split.inputs.dtype == np.float32
    assert np.bincount(split.targets).tolist() == [20_000, 0, 100]
    head = split.inputs[:20_000]
    means = world.means[0]
    between = (means - means.mean(axis=0)).T @ (means - means.mean(axis=0)) / 3
    np.testing.assert_allclose(head.mean(axis=0), means.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.cov(head.T), between + np.eye(4), rtol=0.1, atol=0.3)
    assert len(world.sample(5, np.random.default_rng(0))) == 15


def test_worlds_grow_by_appending_classes_and_change_with_the_seed():
    small, large = (gaussian_world(num_classes=n, dim=6, separation=2.0) for n in (3, 7))
    np.testing.assert_array_equal(large.means[:3], small.means)
    assert not np.allclose(gaussian_world(seed=1, num_classes=3, dim=6, separation=2.0).means, small.means)
    assert gaussian_world(num_classes=3, dim=6, clusters=1, separation=2.0).means.shape == (3, 1, 6)


def test_the_search_stretches_another_number_of_classes_otherwise():
    small, large = (gaussian_world(num_classes=n, dim=6, bayes_error=0.2) for n in (3, 7))
    ratio = large.means[:3] / small.means
    np.testing.assert_allclose(ratio, ratio[0, 0, 0])
    assert abs(ratio[0, 0, 0] - 1) > 0.01


def test_search_reaches_other_worlds():
    world = gaussian_world(seed=5, num_classes=4, dim=8, bayes_error=0.15, clusters=2)
    estimate, _ = world.bayes_error(np.random.default_rng(1), samples_per_class=5000)
    assert abs(estimate - 0.15) < 0.01


def test_load_gives_a_pool_and_a_balanced_test_set():
    world = load("gaussian")
    assert world.train.inputs.shape == world.test.inputs.shape == (10_000, 32)
    assert world.train.inputs.dtype == np.float32
    assert np.bincount(world.test.targets).tolist() == [1000] * 10
    assert not np.isin(world.train.inputs[:, 0], world.test.inputs[:, 0]).all()
    rule = gaussian_world().bayes_predict(world.test.inputs)
    assert abs((rule != world.test.targets).mean() - 0.10) < 0.012
    assert data_hash(load("gaussian")) == data_hash(world)
    assert data_hash(load("gaussian:0.20")) != data_hash(world)
    assert load("gaussian:0.20").name == "gaussian:0.20"


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`num_classes` must be .*2.*got 1"):
        gaussian_world(num_classes=1)
    with pytest.raises(ValueError, match="`dim` must be .*1.*got 0"):
        gaussian_world(dim=0)
    with pytest.raises(ValueError, match="`clusters` must be .*1.*got 0"):
        gaussian_world(clusters=0)
    with pytest.raises(ValueError, match="`seed` must be .*0.*got -1"):
        gaussian_world(seed=-1)
    with pytest.raises(ValueError, match="`separation` must be .*above 0, got 0"):
        gaussian_world(separation=0)
    with pytest.raises(ValueError, match=r"`bayes_error` must lie in \(0, 0.9\), got 0.95"):
        gaussian_world(bayes_error=0.95)
    with pytest.raises(ValueError, match="`bayes_error` must be within reach of these means, got 0.1, nearest 0.5"):
        find_separation(np.zeros((2, 1, 3)), 0.1)
    world = gaussian_world(num_classes=3, dim=4, separation=1.0)
    with pytest.raises(ValueError, match=r"`class_counts` must have one entry per class \(3\), got 2"):
        world.sample([1, 2], np.random.default_rng(0))
    with pytest.raises(ValueError, match="`class_counts` must be non-negative"):
        world.sample(-1, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"`inputs` must have shape \(samples, 4\), got \(2, 5\)"):
        world.bayes_predict(np.zeros((2, 5)))
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"`inputs` must be finite, got {wrong}"):
            world.bayes_predict(np.full((2, 4), wrong))
        with pytest.raises(ValueError, match=f"`means` must be finite, got {wrong}"):
            GaussianWorld(np.full((2, 1, 3), wrong))
    with pytest.raises(ValueError, match=r"`means` must have shape \(classes, clusters, dim\), got \(2, 3\)"):
        GaussianWorld(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`class_prior` must be 3 non-negative numbers with sum 1, got"):
        world.bayes_predict(np.zeros((2, 4)), [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="`samples_per_class` must be .*2.*got 1"):
        world.bayes_error(np.random.default_rng(0), samples_per_class=1)
