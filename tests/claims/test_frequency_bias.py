"""The checks of the notebook on long tails: each is refused a false world, and accepts a true one."""

import numpy as np
import pytest

from lt_lib import counts
from lt_lib.claims import class_gradients, federated, frequency_bias, long_tail, verdict_table
from lt_lib.claims.class_gradients import softmax_gradient

CHECKS = {check.claim.id: check for check in frequency_bias.CHECKS}


def test_all_rows_are_there_in_order():
    assert list(CHECKS) == [1, 2, 3, 4, 5, 52, 62, 63, 64, 65, 66, 67, 68, 69, 103]
    assert len(frequency_bias.CHECKS) == len(CHECKS)


# Counts, cost and accuracy


@pytest.mark.parametrize("row", [1, 2, 3, 4, 52, 62, 67, 68, 103])
def test_cheap_checks_give_the_stored_verdicts(row, rng):
    verdicts = {1: "not judged", 2: "holds", 3: "holds", 4: "refuted", 52: "holds", 62: "holds", 67: "holds"}
    verdicts |= {68: "refuted", 103: "not judged"}
    for profile in ("quick", "small", "paper"):
        assert CHECKS[row].run(profile, rng).verdict == verdicts[row]


@pytest.mark.false_world(1)
def test_benchmarks_are_refused_when_one_of_them_is_long_tailed():
    judge = CHECKS[1].judge
    assert judge({"ilsvrc2012": 1.78, "coco": 1.5}).verdict == "holds"
    assert judge({"ilsvrc2012": 1.78, "coco": 1000.0}).verdict == "refuted"
    assert judge({"ilsvrc2012": 50.0}).verdict == "refuted"
    assert "annotation counts" in judge({"ilsvrc2012": 1.78}).why


@pytest.mark.false_world(52, 103)
def test_balanced_nature_is_refused():
    balanced = {"inaturalist2017": 1.0, "inaturalist2018": 1.0}
    assert CHECKS[52].judge(balanced).verdict == "refuted"
    assert CHECKS[103].judge(balanced).verdict == "refuted"


@pytest.mark.false_world(2)
@pytest.mark.parametrize(
    "cost",
    [
        lambda p, m, _rng: m / np.sqrt(p),
        lambda p, m, _rng: m * p,
        lambda p, m, _rng: np.full_like(p, 1.0 * m),
    ],
)
def test_a_wrong_cost_law_is_refused(cost, rng):
    check = CHECKS[2]
    assert check.judge(check.measure("quick", rng)).verdict == "holds"
    assert check.judge(long_tail.measure_collection_cost("quick", rng, cost=cost)).verdict == "refuted"


def test_the_cost_simulation_agrees_with_drawing_one_by_one(rng):
    prior, wanted = np.array([0.7, 0.2, 0.1]), 4
    counted = []
    for _ in range(400):
        stream = rng.choice(3, size=400, p=prior)
        counted.append([np.flatnonzero(stream == label)[wanted - 1] + 1 for label in range(3)])
    naive = np.mean(counted, axis=0)
    error = np.std(counted, axis=0) / np.sqrt(400)
    fast = long_tail.draws_needed(prior, wanted, rng, repetitions=4000)
    assert (np.abs(fast - naive) < 4 * 1.1 * error).all()
    assert fast == pytest.approx(wanted / prior, rel=0.06)


@pytest.mark.false_world(3)
@pytest.mark.parametrize("exponent", [0.0, 1.0, -2.0])
def test_words_without_a_zipf_slope_are_refused(tmp_path, rng, exponent):
    lines = [f"{rank},w{rank},{10_000 * rank**exponent:.6f}" for rank in range(1, 1001)]
    (tmp_path / "imdb-zipf.csv").write_text("\n".join(["rank,word,count", *lines]) + "\n")
    measured = long_tail.measure_zipf("quick", rng, folder=tmp_path)
    assert measured["slope"] == pytest.approx(exponent, abs=1e-4)
    assert CHECKS[3].judge(measured).verdict == "refuted"


def test_a_missing_table_of_words_is_not_judged(tmp_path, rng):
    judged = CHECKS[3].judge(long_tail.measure_zipf("quick", rng, folder=tmp_path))
    assert judged.verdict == "not judged"
    assert "tools.zipf" in judged.why


@pytest.mark.false_world(4)
def test_top_share_matches_the_published_facts_and_the_rule_can_hold():
    shares = long_tail.measure_pareto("quick", np.random.default_rng(0))
    assert [round(value, 3) for value in shares.values()][:3] == [0.645, 0.613, 0.662]
    assert CHECKS[4].judge({"CIFAR-10-LT, ratio 100": 0.81}).verdict == "holds"
    assert CHECKS[4].judge({"CIFAR-10-LT, ratio 100": 0.2}).verdict == "refuted"
    steep = long_tail.measure_pareto("quick", np.random.default_rng(0), share=lambda _profile: 0.9)
    assert CHECKS[4].judge(steep).verdict == "holds"
    assert long_tail.top_share(counts.exponential_counts(10**6, 100, 5**5)) == pytest.approx(0.8, abs=0.01)
    assert long_tail.top_share([3, 3, 3, 3, 3]) == pytest.approx(0.2)


@pytest.mark.false_world(62)
def test_plain_accuracy_in_place_of_balanced_accuracy_is_refused(rng):
    def plain(targets, predictions, _classes):
        return float(np.mean(np.asarray(targets) == predictions))

    measured = long_tail.measure_constant_classifier("quick", rng, score=plain)
    assert CHECKS[62].judge(measured).verdict == "refuted"


# The softmax gradient


@pytest.mark.false_world(67)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: tuple(-part for part in g),
        lambda g: (g[0], 2 * g[1]),
        lambda g: (g[0] + 1e-4, g[1]),
    ],
)
def test_a_wrong_gradient_is_refused(wrong, rng):
    measured = class_gradients.measure_softmax_gradient("quick", rng, gradient=lambda *a: wrong(softmax_gradient(*a)))
    assert CHECKS[67].judge(measured).verdict == "refuted"


@pytest.mark.false_world(68)
def test_the_printed_direction_holds_only_where_all_targets_are_one(rng):
    measured = class_gradients.measure_softmax_gradient("quick", rng)
    along, true_class = measured["along"], measured["true_class"]
    assert (along[true_class] < 0).all()
    assert (along[~true_class] > 0).all()
    assert CHECKS[68].judge(measured).statistic == pytest.approx(1 / along.shape[1])

    def one_for_every_class(weights, biases, inputs, targets):
        _, residual = softmax_gradient(weights, biases, inputs, targets)
        residual = residual - (np.eye(weights.shape[1])[targets] == 0)
        return inputs[:, :, None] * residual[:, None, :], residual

    false_world = class_gradients.measure_softmax_gradient("quick", rng, gradient=one_for_every_class)
    assert CHECKS[68].judge(false_world).verdict == "holds"


# Trained worlds: measurements that do not show the claim


def gradients(head_share, within=0.6, between=0.0, seeds=10):
    """Measurements with a given share of the head, at two times."""
    sizes = counts.exponential_counts(1000, 10, 100).astype(float)
    share = np.concatenate([np.full(3, head_share / 3), np.full(7, (1 - head_share) / 7)])
    times = {"within": np.full((2, seeds), within), "between": np.full((2, seeds), between)}
    return {"world": {"counts": sizes, "share": np.broadcast_to(share, (2, seeds, 10)), **times}}


@pytest.mark.false_world(64)
def test_most_of_the_gradient_is_more_than_half():
    judge = CHECKS[64].judge
    assert judge(gradients(0.85)).verdict == "holds"
    assert judge(gradients(0.55)).verdict == "holds"  # less than the share of the samples, yet most
    assert judge(gradients(0.45)).verdict == "refuted"  # more than three classes of ten would have, not most
    assert judge(gradients(0.30)).verdict == "refuted"  # every class alike
    assert judge(gradients(0.05)).verdict == "refuted"  # the tail moves the weights
    assert judge({**gradients(0.85), "other": gradients(0.3)["world"]}).verdict == "refuted"


@pytest.mark.false_world(64)
def test_the_share_is_averaged_over_the_measured_epochs_and_the_rule_names_them():
    share = np.stack([gradients(value)["world"]["share"][0] for value in (0.8, 0.6, 0.4)])
    falling = {"world": gradients(0.8)["world"] | {"share": share}}
    outcome = CHECKS[64].judge(falling)
    assert (outcome.verdict, outcome.statistic) == ("holds", pytest.approx(60.0))
    assert "mean over epochs 0 to 2" in outcome.threshold
    longer = {"world": falling["world"] | {"share": np.concatenate([share, share[-1:].repeat(7, axis=0)])}}
    assert CHECKS[64].judge(longer).verdict == "refuted"
    assert "in the first six epochs (mean of seven times" in CHECKS[64].claim.rule


@pytest.mark.false_world(69)
def test_similarity_needs_a_difference():
    judge = CHECKS[69].judge
    assert judge(gradients(0.8)).verdict == "holds"
    assert judge(gradients(0.8, within=0.1, between=0.1)).verdict == "refuted"
    assert judge(gradients(0.8, within=-0.2, between=0.6)).verdict == "refuted"


def long_tail_runs(recall, predicted, seeds=10):
    """Measurements with the same recall and predictions in every seed."""
    sizes = counts.exponential_counts(1000, 10, 100).astype(float)
    tiled = {"recall": np.tile(recall, (seeds, 1)), "predicted": np.tile(predicted, (seeds, 1))}
    return {"world": {"counts": sizes, **tiled}}


@pytest.mark.false_world(5, 65)
def test_recall_and_predictions_must_follow_the_counts():
    falling, flat = np.linspace(0.9, 0.1, 10), np.full(10, 0.5)
    recall, predictions = CHECKS[5].judge, CHECKS[65].judge
    assert recall(long_tail_runs(falling, falling)).verdict == "holds"
    assert recall(long_tail_runs(flat, flat)).verdict == "refuted"
    assert recall(long_tail_runs(falling[::-1], falling)).verdict == "refuted"
    assert recall(long_tail_runs(0.5 + falling / 10, falling)).verdict == "refuted"  # ordered, but a gap of 8 points
    assert predictions(long_tail_runs(flat, falling)).verdict == "holds"
    assert predictions(long_tail_runs(falling, flat)).verdict == "refuted"
    assert predictions(long_tail_runs(falling, falling[::-1])).verdict == "refuted"


def separations(low, high, seeds=10):
    """Measurements with a given price of imbalance at both ends."""
    price = np.array([[low], [high]]) + np.linspace(-0.01, 0.01, seeds)
    return {"separation": np.array([1.0, 4.0]), "balanced": np.zeros_like(price), "long_tailed": price}


@pytest.mark.false_world(66)
def test_separation_must_matter_at_one_end_and_not_at_the_other():
    judge = CHECKS[66].judge
    assert judge(separations(20.0, 0.1)).verdict == "holds"
    assert judge(separations(0.0, 0.0)).verdict == "refuted"
    assert judge(separations(0.1, 20.0)).verdict == "refuted"
    judged = judge(separations(20.0, 3.0))
    assert judged.verdict == "refuted"
    assert judged.statistic == pytest.approx(3.0)
    assert judged.low < judged.statistic < judged.high


def clients(even, skewed, seeds=10):
    """Measurements with a given last accuracy."""
    spread = np.linspace(-0.001, 0.001, seeds)[:, None]
    return {"iid": {"accuracy": even + spread}, "two": {"accuracy": skewed - spread}}


@pytest.mark.false_world(63)
def test_skewed_clients_must_be_worse():
    judge = CHECKS[63].judge
    assert judge(clients(0.9, 0.8)).verdict == "holds"
    assert judge(clients(0.9, 0.9)).verdict == "inconclusive"
    assert judge(clients(0.8, 0.9)).verdict == "refuted"


# Trained worlds: one false world per family, from end to end


@pytest.mark.false_world(5, 65)
def test_balanced_training_shows_no_frequency_bias(rng):
    small = {"worlds": ["gaussian:0.05"], "num_seeds": 3}
    balanced = frequency_bias.measure_long_tail_training("quick", rng, ratio=1.0, epochs=1, **small)
    assert CHECKS[5].judge(balanced).verdict != "holds"
    assert CHECKS[65].judge(balanced).verdict != "holds"
    tail = frequency_bias.measure_long_tail_training("quick", rng, ratio=100.0, epochs=3, **small)
    assert CHECKS[65].judge(tail).verdict == "holds"


@pytest.mark.false_world(64, 69)
def test_gradients_of_a_trained_world(rng):
    measured = class_gradients.measure_gradients("quick", rng, worlds=["gaussian"], num_seeds=2, epochs=1)
    part = measured["gaussian"]
    assert part["share"].shape == (2, 2, 10)
    assert part["share"].sum(axis=-1) == pytest.approx(np.ones((2, 2)))
    assert (part["within"] > part["between"]).all()
    shuffled = {"gaussian": {**part, "within": part["between"], "share": part["share"][..., ::-1]}}
    assert CHECKS[64].judge(shuffled).verdict == "refuted"
    assert CHECKS[69].judge(shuffled).verdict == "refuted"


def test_gradient_shares_equal_single_gradients():
    import torch

    from lt_lib.models import MLP, StackedModel, seeded

    networks = [seeded(lambda: MLP(4, 3), seed) for seed in range(2)]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 6, 4, generator=generator)
    sizes = np.array([3, 2, 1])
    targets = torch.from_numpy(np.repeat(np.arange(3), sizes)).expand(2, -1)
    shares = class_gradients.gradient_shares(StackedModel(networks), inputs, targets, sizes)
    for network, x, y, share in zip(networks, inputs, targets, shares, strict=True):
        norms = []
        for label in range(3):
            losses = [torch.nn.functional.cross_entropy(network(x[[i]]), y[[i]]) for i in range(6) if y[i] == label]
            parts = torch.autograd.grad(torch.stack(losses).sum(), list(network.parameters()))
            norms.append(torch.cat([part.flatten() for part in parts]).norm())
        assert share == pytest.approx((torch.stack(norms) / torch.stack(norms).sum()).numpy(), rel=1e-5)


def test_without_imbalance_separation_costs_nothing(rng):
    measured = frequency_bias.measure_separation("quick", rng, separations=(0.6, 5.0), ratio=1.0, num_seeds=2, epochs=1)
    assert CHECKS[66].judge(measured).verdict != "holds"
    assert measured["long_tailed"] == pytest.approx(measured["balanced"])
    assert (measured["unseen"] == 0).all()


def test_a_withheld_cluster_is_never_drawn_and_nothing_else_moves(rng):
    from lt_lib.data import gaussian_world

    world = gaussian_world(separation=5.0)
    without = frequency_bias._without_one_cluster(world, 4)
    sizes = np.full(10, 30)
    whole, part = (each.sample(sizes, np.random.default_rng(1)) for each in (world, without))
    moved = np.any(whole.inputs != part.inputs, axis=1)
    assert 0 < moved.sum() < 30
    assert (whole.targets[moved] == 4).all()
    assert frequency_bias._unseen_clusters(world.means, whole.inputs) == 0
    assert frequency_bias._unseen_clusters(world.means, part.inputs) == 1


def test_a_withheld_cluster_costs_what_separation_does_not_buy_back(rng):
    measured = frequency_bias.measure_separation("quick", rng, separations=(3.5,), num_seeds=2)
    # A third of one class in ten.
    assert (measured["withheld"] - measured["balanced"] > 3).all()
    assert (measured["long_tailed"] - measured["balanced"] < 1).all()


def test_the_cluster_is_withheld_from_the_rarest_class(rng, monkeypatch):
    labels = []
    monkeypatch.setattr(frequency_bias, "_without_one_cluster", lambda world, label: labels.append(label) or world)
    measured = frequency_bias.measure_separation("quick", rng, separations=(3.5,), num_seeds=2, epochs=1)
    assert labels == [np.random.default_rng(seed).permutation(10)[-1] for seed in (0, 1)]
    assert (measured["withheld"] == measured["long_tailed"]).all()


def test_unseen_clusters_are_counted():
    means = np.eye(4).reshape(2, 2, 4) * 10
    assert frequency_bias._unseen_clusters(means, means.reshape(4, 4)[:3]) == 1


@pytest.mark.false_world(63)
def test_clients_dealt_without_regard_to_class_are_not_skewed(rng):
    def deal(targets, num_clients, _shards, rng):
        return federated.deal_samples(targets, num_clients, 0, rng)

    measured = federated.measure_federated("quick", rng, deal=deal, num_seeds=4, rounds=2)
    assert CHECKS[63].judge(measured).verdict != "holds"
    assert CHECKS[63].judge(federated.measure_federated("quick", rng, num_seeds=10, rounds=6)).verdict == "holds"


@pytest.mark.parametrize(("shards", "most"), [(1, 1), (2, 2)])
def test_shards_hold_few_classes_and_every_sample_once(shards, most, rng):
    targets = rng.permutation(np.repeat(np.arange(5), 8))
    dealt = federated.deal_samples(targets, 5, shards, rng)
    assert sorted(dealt.ravel()) == list(range(40))
    assert max(len(np.unique(targets[client])) for client in dealt) <= most


def test_one_local_step_of_equal_clients_is_gradient_descent(rng):
    inputs, targets = rng.standard_normal((1, 2, 6, 3)), rng.integers(3, size=(1, 2, 6))
    targets[0, 0, 0] = 2
    test = rng.standard_normal((50, 3))
    both, _ = federated.federated_averaging(inputs, targets, test, rounds=7, local_steps=1, rate=0.3)
    pooled, drift = federated.federated_averaging(
        inputs.reshape(1, 1, 12, 3), targets.reshape(1, 1, 12), test, rounds=7, local_steps=1, rate=0.3
    )
    assert (both == pooled).all()
    assert (drift == 0).all()


# Rows of other profiles


def result_rows(seeds, recall):
    """A table as other notebooks write it."""
    import pandas as pd

    row = {"dataset": "cifar10-jpeg", "profile": "small", "method": "ERM", "imbalance_type": "exponential"}
    row |= {"imbalance_ratio": 100.0, "accuracy_last": np.mean(recall)}
    row |= {f"recall_{label}": value for label, value in enumerate(recall)}
    return pd.DataFrame([{**row, "seed": seed} for seed in range(seeds)])


def test_recall_at_small_is_read_from_the_result_tables(tmp_path, rng):
    def judged(profile="small"):
        return CHECKS[5].judge(frequency_bias.measure_long_tail_training(profile, rng, folder=tmp_path))

    assert judged().verdict == "not judged"
    assert judged().why.endswith("which 900_run makes; there are none")
    result_rows(1, np.linspace(0.9, 0.3, 10)).to_csv(tmp_path / "runs.csv", index=False)
    assert judged().verdict == "not judged"
    assert judged().why.endswith("there is 1")
    result_rows(2, np.linspace(0.9, 0.3, 10)).to_csv(tmp_path / "runs.csv", index=False)
    assert judged().verdict == "holds"
    assert judged("paper").verdict == "not judged"
    for wrong in (np.linspace(0.3, 0.9, 10), np.full(10, 0.6)):
        result_rows(2, wrong).to_csv(tmp_path / "runs.csv", index=False)
        assert judged().verdict == "refuted"


@pytest.mark.parametrize("other", [{"model": "resnet8"}, {"dataset": "cifar10"}, {"epochs": 20}, {"total_epochs": 400}])
def test_seeds_of_different_networks_or_lengths_are_no_pair(tmp_path, rng, other):
    import pandas as pd

    def judged():
        return CHECKS[5].judge(frequency_bias.measure_long_tail_training("small", rng, folder=tmp_path))

    one = result_rows(2, np.linspace(0.9, 0.3, 10)).assign(model="resnet32")
    for seeds in ((0, 0), (0, 1)):
        both = pd.concat([one[one.seed == seeds[0]], one[one.seed == seeds[1]].assign(**other)])
        both.to_csv(tmp_path / "runs.csv", index=False)
        assert judged().verdict == "not judged"
    # A second world with one seed takes nothing from the first.
    pd.concat([one, one[:1].assign(**other)]).to_csv(tmp_path / "runs.csv", index=False)
    assert judged().verdict == "holds"
    # One with two seeds must show the same.
    worse = result_rows(2, np.full(10, 0.6)).assign(**{"model": "resnet32"} | other)
    pd.concat([one, worse]).to_csv(tmp_path / "runs.csv", index=False)
    assert judged().verdict == "refuted"


def test_a_seed_that_stands_twice_is_refused(tmp_path, rng):
    import pandas as pd

    rows = result_rows(2, np.linspace(0.9, 0.3, 10)).assign(model="resnet32")
    pd.concat([rows, rows[:1]]).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(ValueError, match="got a seed of ERM twice in cifar10-jpeg, resnet32, ratio 100"):
        frequency_bias.measure_long_tail_training("small", rng, folder=tmp_path)


def test_toy_checks_are_not_judged_at_other_profiles(rng):
    for row in (63, 64, 65, 66, 69):
        assert CHECKS[row].run("paper", rng).verdict == "not judged"


def test_the_table_prints(rng):
    rows = [(CHECKS[row].claim, CHECKS[row].run("quick", rng)) for row in (1, 4, 62)]
    assert "refuted" in verdict_table(rows)
