import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_lib.training import (
    CheckpointError,
    Outcome,
    Plan,
    alignment_target,
    alignment_temperature,
    exponential_profile,
    inclusion_rates,
    run_generations,
    select_pseudo_labels,
)

PROFILES = st.lists(st.integers(1, 10_000), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("ratio", "table"),
    [
        (50, [0.271, 0.314, 0.363, 0.419, 0.485, 0.560, 0.647, 0.748, 0.865, 1]),
        (100, [0.215, 0.255, 0.303, 0.359, 0.426, 0.506, 0.600, 0.711, 0.843, 1]),
        (200, [0.171, 0.208, 0.253, 0.308, 0.375, 0.456, 0.555, 0.675, 0.822, 1]),
    ],
)
def test_the_rates_of_the_papers_setting(ratio, table):
    rates = inclusion_rates(exponential_profile(10, ratio), 1 / 3)
    # The table was rounded twice: it is good to one in the third digit.
    np.testing.assert_allclose(rates, table, atol=1e-3)
    np.testing.assert_allclose(rates, ratio ** (-(9 - np.arange(10)) / 27), rtol=1e-13)


@given(PROFILES, st.floats(0, 5))
def test_rates_rise_with_rarity(profile, alpha):
    rates = inclusion_rates(profile, alpha)
    order = np.argsort(-np.asarray(profile), kind="stable")
    assert (np.diff(rates[order]) >= 0).all()
    assert ((rates > 0) & (rates <= 1)).all()
    assert rates[order[-1]] == 1


def test_the_formula_class_by_class():
    sizes, alpha = [7, 100, 20, 3], 0.4
    ranked = sorted(sizes, reverse=True)
    for label, size in enumerate(sizes):
        rank = ranked.index(size)  # 0-based: N_{L+1-l} is the entry L - 1 - rank
        expected = (ranked[len(sizes) - 1 - rank] / ranked[0]) ** alpha
        assert inclusion_rates(sizes, alpha)[label] == pytest.approx(expected, rel=1e-14)


def test_alpha_is_the_exponent_and_not_its_reciprocal():
    sizes = [100, 1]
    assert inclusion_rates(sizes, 3)[0] == pytest.approx(1e-6)
    assert inclusion_rates(sizes, 1 / 3)[0] == pytest.approx(100 ** (-1 / 3))
    np.testing.assert_array_equal(inclusion_rates(sizes, 0), [1, 1])
    assert inclusion_rates([9, 3, 1], 60).round(12).tolist() == [0, 0, 1]
    np.testing.assert_array_equal(inclusion_rates([5, 5, 5], 2), [1, 1, 1])


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
def test_a_wrong_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="`alpha` must be a finite number of at least 0"):
        inclusion_rates([2, 1], alpha)


@pytest.mark.parametrize(
    "function", [lambda sizes: inclusion_rates(sizes, 1), lambda sizes: alignment_target(sizes, 1)]
)
def test_a_class_without_labelled_samples_is_refused(function):
    with pytest.raises(ValueError, match="a labelled sample or more in every class, got 0 for class 1"):
        function([5, 0, 1])
    with pytest.raises(ValueError, match="`profile` must be two or more finite numbers"):
        function([5])


def test_the_temperatures_of_six_generations():
    found = [alignment_temperature(g, 6, 0.5) for g in range(6)]
    np.testing.assert_allclose(found, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5], rtol=1e-15)
    assert alignment_temperature(0, 1, 0.5) == 1.0  # where the printed formula divides by zero
    assert [alignment_temperature(g, 3, 1.0) for g in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("t_min", [0.0, -0.5, 1.5])
def test_a_wrong_t_min_is_refused(t_min):
    with pytest.raises(ValueError, match=rf"`t_min` must be in \(0, 1\], got {t_min}"):
        alignment_temperature(0, 6, t_min)


def test_wrong_generations_are_refused():
    with pytest.raises(ValueError, match=r"`generation` must be an integer in \[0, 5\], got 6"):
        alignment_temperature(6, 6, 0.5)
    with pytest.raises(ValueError, match="`generations` must be an integer of at least 1, got 0"):
        alignment_temperature(0, 0, 0.5)


def test_the_target_goes_from_the_prior_towards_balance():
    profile = exponential_profile(10, 100.0)
    ratios = [target[0] / target[-1] for target in (alignment_target(profile, t) for t in (1, 0.9, 0.8, 0.7, 0.6, 0.5))]
    np.testing.assert_allclose(ratios, [100, 63.1, 39.8, 25.1, 15.8, 10.0], atol=0.05)
    np.testing.assert_allclose(alignment_target(profile, 1), profile / profile.sum())
    np.testing.assert_allclose(alignment_target(profile, 0), np.full(10, 0.1))
    with pytest.raises(ValueError, match="`temperature` must be a finite number of at least 0"):
        alignment_target(profile, -1)


def predictions(rng, samples=200, classes=4):
    return rng.dirichlet(np.full(classes, 0.5), samples)


def test_the_selection_equals_a_naive_one(rng):
    table, rates = predictions(rng), [0.2, 0.35, 0.7, 1.0]
    chosen = select_pseudo_labels(table, rates)
    expected = []
    for label, rate in enumerate(rates):
        mine = [u for u in range(len(table)) if max(range(4), key=lambda c: table[u][c]) == label]
        mine.sort(key=lambda u: -table[u].max())
        expected += [(u, label) for u in mine[: int(len(mine) * rate)]]
        assert chosen.predicted[label] == len(mine)
    assert list(zip(chosen.indices, chosen.labels, strict=True)) == expected
    assert chosen.selected.sum() == len(expected)
    tensor = select_pseudo_labels(torch.from_numpy(table), rates)
    np.testing.assert_array_equal(tensor.indices, chosen.indices)


@pytest.mark.parametrize("how", ["top", "random"])
def test_the_selection_is_part_of_the_pool(rng, how):
    table = predictions(rng)
    chosen = select_pseudo_labels(table, [0.1, 0.4, 0.9, 1.0], how=how, rng=rng)
    assert len(np.unique(chosen.indices)) == len(chosen.indices)
    assert ((chosen.indices >= 0) & (chosen.indices < len(table))).all()
    np.testing.assert_array_equal(table[chosen.indices].argmax(axis=1), chosen.labels)
    assert (chosen.selected <= chosen.predicted).all()


def test_alpha_zero_keeps_every_pseudo_label(rng):
    table = predictions(rng)
    chosen = select_pseudo_labels(table, inclusion_rates([50, 20, 7, 1], 0.0))
    assert sorted(chosen.indices) == list(range(len(table)))
    np.testing.assert_array_equal(chosen.labels, table[chosen.indices].argmax(axis=1))


def test_random_selection_ignores_confidence(rng):
    table = predictions(rng, 400, 2)
    top = select_pseudo_labels(table, [0.25, 0.25])
    drawn = select_pseudo_labels(table, [0.25, 0.25], how="random", rng=rng)
    np.testing.assert_array_equal(top.selected, drawn.selected)
    assert table[top.indices].max(axis=1).min() > table[drawn.indices].max(axis=1).min()
    with pytest.raises(ValueError, match="`rng` must be a generator"):
        select_pseudo_labels(table, [1, 1], how="random")


def test_whole_shares_lose_no_sample_to_rounding():
    table = np.tile([0.9, 0.1], (100, 1))
    assert 100 * 0.29 < 29
    assert select_pseudo_labels(table, [0.29, 1]).selected.tolist() == [29, 0]


def test_a_class_that_is_never_predicted_is_named():
    table = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    chosen = select_pseudo_labels(table, [0.5, 0.8, 1.0])
    assert chosen.never_predicted == (2,)
    assert chosen.predicted.tolist() == [2, 1, 0]
    assert chosen.selected.tolist() == [1, 0, 0]
    assert "no candidate was predicted as class 2" in chosen.describe()
    assert select_pseudo_labels(np.eye(2), [1, 1]).describe() == "2 of 2 candidates selected"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_softmax_of_a_network_is_taken_as_it_comes(dtype):
    logits = 4 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    table = logits.to(dtype).requires_grad_().softmax(dim=1)
    chosen = select_pseudo_labels(table, [0.1, 0.4, 0.9, 1.0])
    expected = select_pseudo_labels(table.detach().double().numpy(), [0.1, 0.4, 0.9, 1.0])
    np.testing.assert_array_equal(chosen.indices, expected.indices)


def test_ties_go_by_position():
    table = np.tile([0.6, 0.4], (5, 1))
    assert select_pseudo_labels(table, [0.6, 1]).indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("table", "rates", "message"),
    [
        (np.empty((0, 2)), [1, 1], r"`probabilities` must have shape \(samples >= 1, classes >= 2\), got \(0, 2\)"),
        ([[3.0, -1.0]], [1, 1], "`probabilities` must be >= 0 with rows summing to 1, .*logits need a softmax first"),
        ([[np.nan, 1.0]], [1, 1], "`probabilities` must be finite"),
        ([[0.5, 0.5]], [1, 1.1], r"`rates` must be 2 numbers in \[0, 1\]"),
        ([[0.5, 0.5]], [1], "`rates` must be 2 numbers"),
    ],
)
def test_wrong_selections_are_refused(table, rates, message):
    with pytest.raises(ValueError, match=message):
        select_pseudo_labels(table, rates)


# A world where sample u of the pool has class u % 3, and a learner whose predictions depend on what it is trained on.
CLASSES, POOL = 3, 60
LABELLED = np.array([0, 1, 2, 3])
CANDIDATES = np.arange(6, POOL)


def plan(**changes):
    settings = {"labelled": LABELLED, "labels": LABELLED % CLASSES, "candidates": CANDIDATES, "rates": [0.3, 0.6, 1.0]}
    settings = settings | changes
    return Plan(**(settings | {"rates": np.asarray(settings["rates"])}))


def digest_learner(seen=None, fail_at=None, files=None):
    """Random predictions, seeded by the indices and labels of the training set."""

    def learn(tasks):
        outcomes = []
        for task in tasks:
            if files is not None and task.checkpoint is not None:
                files.append(task.checkpoint)
                task.checkpoint.write_bytes(b"half-trained")
            if task.index == fail_at:
                raise KeyboardInterrupt
            if seen is not None:
                seen.append(task)
            weight = int((task.labelled * (task.labels + 1)).sum())
            table = np.random.default_rng([weight, task.index]).dirichlet(np.ones(CLASSES), len(task.candidates))
            state = torch.tensor([task.index + (0 if task.state is None else float(task.state[0]))])
            outcomes.append(Outcome(table, {"weight": weight, "mean": table.mean(axis=0), "list": [1.5]}, state))
        return outcomes

    return learn


def same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert (a.generation, a.training_size, a.report["weight"]) == (
            b.generation,
            b.training_size,
            b.report["weight"],
        )
        np.testing.assert_array_equal(a.selection.indices, b.selection.indices)
        np.testing.assert_array_equal(a.selection.labels, b.selection.labels)
        np.testing.assert_array_equal(a.report["mean"], b.report["mean"])


def test_every_generation_starts_from_the_original_labelled_set():
    seen = []
    records = run_generations(digest_learner(seen), [plan()], generations=4)[0]
    for task, before in zip(seen, [None, *records], strict=False):
        np.testing.assert_array_equal(task.labelled[: len(LABELLED)], LABELLED)
        np.testing.assert_array_equal(task.labels[: len(LABELLED)], LABELLED % CLASSES)
        added = task.labelled[len(LABELLED) :]
        expected = [] if before is None else CANDIDATES[before.selection.indices]
        np.testing.assert_array_equal(added, expected)
        if before is not None:
            np.testing.assert_array_equal(task.labels[len(LABELLED) :], before.selection.labels)
        assert set(added) <= set(CANDIDATES)
    assert [record.training_size for record in records] == [len(task.labelled) for task in seen]
    assert [task.index for task in seen] == [0, 1, 2, 3]


def test_an_accumulated_selection_keeps_what_it_has():
    records = run_generations(digest_learner(), [plan(keep="accumulate")], generations=4)[0]
    for before, after in zip(records, records[1:], strict=False):
        size = len(before.selection.indices)
        np.testing.assert_array_equal(after.selection.indices[:size], before.selection.indices)
        np.testing.assert_array_equal(after.selection.labels[:size], before.selection.labels)
        assert len(np.unique(after.selection.indices)) == len(after.selection.indices)
        assert after.selection.selected.sum() == len(after.selection.indices)
    rebuilt = run_generations(digest_learner(), [plan()], generations=4)[0]
    assert len(records[-1].selection.indices) > len(rebuilt[-1].selection.indices)


def test_one_generation_is_the_learner_alone():
    seen = []
    records = run_generations(digest_learner(seen), [plan()], generations=1)[0]
    assert len(records) == len(seen) == 1
    np.testing.assert_array_equal(seen[0].labelled, LABELLED)


def test_runs_side_by_side_do_not_touch_each_other():
    plans = [plan(), plan(rates=[1, 1, 1]), plan(candidates=CANDIDATES[5:], how="random", seed=3)]
    together = run_generations(digest_learner(), plans, generations=3)
    for one, single in zip(together, plans, strict=True):
        same(one, run_generations(digest_learner(), [single], generations=3)[0])


def test_a_random_selection_depends_on_seed_and_generation_alone():
    first = run_generations(digest_learner(), [plan(how="random", seed=1)], generations=3)[0]
    same(first, run_generations(digest_learner(), [plan(how="random", seed=1)], generations=3)[0])
    other = run_generations(digest_learner(), [plan(how="random", seed=2)], generations=1)[0]
    assert other[0].selection.indices.tolist() != first[0].selection.indices.tolist()


@pytest.mark.parametrize("how", ["top", "random"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_goes_on_in_any_generation(tmp_path, stop, how):
    whole = run_generations(digest_learner(), [plan(how=how), plan(seed=1)], generations=4)
    arguments = {"generations": 4, "checkpoint": tmp_path, "identity": "me"}
    run_generations(digest_learner(), [plan(how=how), plan(seed=1)], stop_after=stop, **arguments)
    seen = []
    resumed = run_generations(digest_learner(seen), [plan(how=how), plan(seed=1)], **arguments)
    assert min(task.index for task in seen) == stop
    for one, two in zip(resumed, whole, strict=True):
        same(one, two)
    # A finished run is read, not trained again.
    again = run_generations(digest_learner(fail_at=0), [plan(how=how), plan(seed=1)], **arguments)
    same(again[0], whole[0])


def test_an_interrupted_generation_keeps_its_own_file_until_it_is_recorded(tmp_path):
    files = []
    with pytest.raises(KeyboardInterrupt):
        run_generations(digest_learner(fail_at=1, files=files), [plan()], generations=3, checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generation1.pt", "generations.pt"]
    run_generations(digest_learner(files=files), [plan()], generations=3, checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generations.pt"]
    assert files[1] == files[2] == tmp_path / "generation1.pt"


def test_state_goes_from_one_generation_to_the_next(tmp_path):
    seen = []
    run_generations(digest_learner(seen), [plan()], generations=4)
    assert [task.state if task.state is None else float(task.state) for task in seen] == [None, 0, 1, 3]
    seen.clear()
    run_generations(digest_learner(), [plan()], generations=4, checkpoint=tmp_path, stop_after=3)
    run_generations(digest_learner(seen), [plan()], generations=4, checkpoint=tmp_path)
    assert [float(task.state) for task in seen] == [3]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run_generations(digest_learner(), [plan()], generations=2, checkpoint=tmp_path, identity="one")
    with pytest.raises(CheckpointError, match="`identity` must be 'two', got 'one'"):
        run_generations(digest_learner(), [plan()], generations=2, checkpoint=tmp_path, identity="two")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 1, 1, 0])}, "at least one labelled sample of every class, got none of class 2"),
        ({"candidates": np.empty(0, dtype=np.int64)}, "`candidates` must hold at least one .* got an empty pool"),
        ({"candidates": np.array([3, 9])}, "`candidates` must not be labelled samples, got index 3 on both sides"),
        ({"labels": np.array([0, 1, 2])}, r"`labels` must be one per labelled sample \(4\), got 3"),
        ({"labels": np.array([0, 1, 2, 5])}, "`labels` must lie in 0 … 2, got 5"),
        ({"how": "best"}, "`how` must be one of 'top', 'random'"),
        ({"keep": "all"}, "`keep` must be one of 'rebuild', 'accumulate'"),
    ],
)
def test_wrong_plans_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_wrong_runs_are_refused():
    with pytest.raises(ValueError, match="`generations` must be an integer of at least 1, got 0"):
        run_generations(digest_learner(), [plan()], generations=0)
    with pytest.raises(ValueError, match="`plans` must hold at least one plan"):
        run_generations(digest_learner(), [], generations=1)
    with pytest.raises(ValueError, match=r"`learn` must return one outcome per plan \(1\), got 0"):
        run_generations(lambda _tasks: [], [plan()], generations=1)
    with pytest.raises(ValueError, match=r"`learn` must return one prediction per candidate \(54\), got 1"):
        run_generations(lambda _tasks: [Outcome(np.ones((1, 3)), {})], [plan()], generations=1)
