from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lt_lib import counts, data, losses, samplers
from lt_lib.data import Dataset, Split, augment
from lt_lib.models import CosineHead, parameter_groups
from lt_lib.recipes import METHODS, Objective, RunConfig, build, class_profile, draw_subset, method_config, run
from lt_lib.training import fit, make_fabric
from lt_lib.training.loop import _train_epoch

BASE = RunConfig(dataset="tiny", imbalance_ratio=8.0, epochs=5)
COUNTS = np.array([40, 14, 5])


def batch(members=()):
    rng = torch.Generator().manual_seed(0)
    logits = torch.rand(*members, 16, 3, dtype=torch.float64, generator=rng) * 2 - 1
    return logits, torch.randint(3, (*members, 16), generator=rng)


def test_profiles_are_those_of_counts():
    available = np.array([50, 40, 45])
    assert class_profile(BASE, available).tolist() == counts.exponential_counts(40, 3, 8).tolist()
    step = BASE.changed(imbalance_type="step", n_max=20)
    assert class_profile(step, available).tolist() == counts.step_counts(20, 3, 8).tolist()
    assert class_profile(BASE.changed(imbalance_type="balanced", n_max=30), available).tolist() == [30, 30, 30]


def test_the_subset_has_the_profile_and_the_seed_draws_it(tiny):
    subset = draw_subset(BASE, tiny)
    assert subset.class_counts.tolist() == [40, 14, 5]
    assert np.bincount(tiny.train.targets[subset.train]).tolist() == [40, 14, 5]
    assert len(subset.validation) == 0
    assert draw_subset(BASE, tiny).hash == subset.hash
    assert draw_subset(BASE.changed(split_seed=1), tiny).hash != subset.hash


def test_the_holdout_is_disjoint_and_recorded(tiny):
    subset = draw_subset(BASE.changed(validation_per_class=6), tiny)
    assert not set(subset.train) & set(subset.validation)
    assert np.bincount(tiny.train.targets[subset.validation]).tolist() == [6, 6, 6]
    assert subset.class_counts.tolist() == [34, 14, 5]  # the first class had nothing to spare


def test_permuted_classes_have_the_same_counts_in_another_order(tiny):
    found = {tuple(draw_subset(BASE.changed(permute_classes=True, split_seed=s), tiny).class_counts) for s in range(6)}
    assert len(found) > 2
    assert {tuple(sorted(one)) for one in found} == {(5, 14, 40)}


def test_images_are_standardised_with_the_whole_training_split(tiny):
    problem = build.build_problem(BASE, "cpu", tiny)
    mean, deviation = augment.channel_statistics(tiny.train.inputs)
    expected = (tiny.test.inputs / 255 - mean) / deviation
    np.testing.assert_allclose(problem.test[0].numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    assert problem.input_shape == (1, 8, 8)
    assert problem.augment is None
    assert problem.validation is None
    assert problem.train.dtype == torch.float64  # a small network on a CPU
    assert build.build_problem(BASE.changed(precision="float32"), "cpu", tiny).train.dtype == torch.float32


def test_augmented_images_stay_bytes_and_are_standardised_per_batch(tiny):
    problem = build.build_problem(BASE.changed(augment=True, model="resnet8"), "cpu", tiny)
    assert problem.train.dtype == torch.uint8
    one, two = (problem.augment(problem.train[:4], torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert one.shape == (4, 1, 8, 8)
    assert not torch.equal(one, two)
    crops = augment.pad_crop_flip(problem.train[:4], torch.Generator().manual_seed(0))
    torch.testing.assert_close(one, augment.normalise(crops, *augment.channel_statistics(tiny.train.inputs)))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_without_augmentation_the_inputs_are_those_of_a_run_without_it(tiny, precision):
    config = RunConfig(dataset="tiny", model="resnet8", augment=True, precision=precision, imbalance_ratio=4.0)
    problem = build.build_problem(config, "cpu", tiny)
    bare, other = build.unaugmented(problem), build.build_problem(config.changed(augment=False), "cpu", tiny)
    assert torch.equal(bare.train, other.train)
    assert bare.train.stride() == other.train.stride()
    assert torch.equal(bare.store(tiny.test.inputs), other.store(tiny.test.inputs))
    assert torch.equal(bare.prepare(bare.train), bare.train)
    assert bare.augment is None
    assert build.unaugmented(bare) is bare


def test_vectors_are_used_as_they_are(vectors):
    config = BASE.changed(dataset="vectors", precision="float32")
    problem = build.build_problem(config, "cpu", vectors)
    np.testing.assert_array_equal(problem.test[0].numpy(), vectors.test.inputs)
    with pytest.raises(ValueError, match="`augment` must be False for a data set of vectors, got True for 'vectors'"):
        build.build_problem(config.changed(augment=True), "cpu", vectors)
    with pytest.raises(ValueError, match="`model` must be 'mlp' for a data set of vectors, got 'cnn'"):
        build.build_model(config.changed(model="cnn"), problem.input_shape, 3)


TEXTS = BASE.changed(dataset="texts", model="lstm64", tokens=2)


def test_texts_become_numbers_of_the_words_of_the_training_subset():
    train = Split(["b b seen", "b", "a new", "a"] * 2, np.array([0, 0, 1, 1] * 2))
    test = Split(["a seen b"], np.array([0]))
    subset = build.Subset(np.array([0, 1, 3]), np.array([2]), np.array([2, 1]), "")
    problem = build.build_problem(TEXTS, "cpu", Dataset("texts", train, test, 2, ("a", "b")), subset)
    # b 3 times, then a and seen once each; "new" is only in a review that is not trained on
    assert problem.train.tolist() == [[2, 4], [2, 0], [3, 0]]
    assert problem.validation[0].tolist() == [[3, 1]]
    assert problem.test[0].tolist() == [[4, 2]]
    assert (problem.train.dtype, problem.input_shape) == (torch.int64, (2,))


def test_texts_and_lstms_belong_together(tiny, vectors, texts):
    for config, dataset in (
        (TEXTS.changed(model="mlp", tokens=200), texts),
        (TEXTS.changed(dataset="tiny"), tiny),
        (TEXTS.changed(dataset="vectors"), vectors),
    ):
        with pytest.raises(ValueError, match=f"`model` must be an LSTM for a data set of texts .*'{config.dataset}'"):
            build.build_problem(config, "cpu", dataset)
    with pytest.raises(ValueError, match="`augment` must be False for a data set of texts, got True for 'texts'"):
        build.build_problem(TEXTS.changed(augment=True), "cpu", texts)


@pytest.mark.parametrize(("name", "hidden"), [("lstm64", 64), ("lstm128", 128)])
def test_the_name_of_an_lstm_is_its_width(name, hidden):
    net = build.build_model(TEXTS.changed(model=name, loss="ldam"), (2,), 3)
    assert isinstance(net.head, CosineHead)
    assert net.vectors.weight.shape == (build.VOCABULARY, hidden)
    assert {layer.hidden_size for layer in (*net.forwards, *net.backwards)} == {hidden}


def test_the_first_classes_are_rare_if_the_step_is_reversed(tiny):
    reversed_step = BASE.changed(imbalance_type="reversed_step")
    assert class_profile(reversed_step, np.array([40, 40])).tolist() == [5, 40]
    assert draw_subset(reversed_step, tiny).class_counts.tolist() == counts.step_counts(40, 3, 8).tolist()[::-1]


def test_the_optimiser_is_the_one_that_is_named():
    assert build.build_optimizer(BASE) is None
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.5}]
    make = build.build_optimizer(BASE.changed(optimizer="adam", momentum=0.7))
    adam = make(groups, lr=0.03, foreach=True, fused=False)
    assert isinstance(adam, torch.optim.Adam)
    (group,) = adam.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.03, (0.7, 0.999), 0.5)


@pytest.mark.parametrize(
    ("model", "precision", "bfloat16", "device", "expected"),
    [
        ("mlp", "auto", True, "cpu", "float64"),
        ("mlp", "auto", True, "cuda:1", "float32"),
        ("resnet32", "auto", True, "cuda:1", "bfloat16"),
        ("resnet32", "auto", True, "cpu", "bfloat16"),
        ("resnet32", "auto", False, "cpu", "float32"),
        ("resnet32", "float64", True, "cpu", "float64"),
        ("lstm64", "auto", True, "cpu", "float32"),
        ("lstm64", "auto", True, "cuda:1", "float32"),
    ],
)
def test_the_number_format_follows_model_and_hardware(monkeypatch, model, precision, bfloat16, device, expected):
    monkeypatch.setattr(build, "computes_bfloat16", lambda kind: bfloat16 and kind in ("cpu", "cuda"))
    assert build.resolve_precision(RunConfig(model=model, precision=precision), device) == expected


def test_the_loss_decides_head_and_first_bias():
    ldam = build.build_model(BASE.changed(loss="ldam"), (64,), 3)
    assert isinstance(ldam.head, CosineHead)
    for loss, bias in (("softmax", 0.0), ("sigmoid", -np.log(2)), ("focal", -np.log(2)), ("hinge", 0.0)):
        head = build.build_model(BASE.changed(loss=loss), (64,), 3).head
        torch.testing.assert_close(head.bias.detach(), torch.full((3,), float(bias)))
    zero = build.build_model(BASE.changed(loss="sigmoid", bias_init="zero"), (64,), 3)
    assert not zero.head.bias.any()


@pytest.mark.parametrize(
    ("loss", "rule"), [("softmax", "all"), ("sigmoid", "all_but_head_bias"), ("focal", "all_but_head_bias")]
)
def test_the_loss_decides_what_is_decayed(loss, rule):
    assert build.decay_rule(BASE.changed(loss=loss)) == rule
    assert build.decay_rule(BASE.changed(loss=loss, decay_on="head_bias_only")) == "head_bias_only"


MARGINS = torch.as_tensor(counts.ldam_margins(COUNTS, 0.4))
UNIFORM = torch.full((3,), 0.4, dtype=torch.float64)
PRIOR = torch.as_tensor(counts.class_prior(COUNTS))
REFERENCES = {
    "softmax": ({}, lambda z, y, **o: losses.softmax_loss(z, y, **o)),
    "sigmoid": ({}, lambda z, y, **o: losses.sigmoid_loss(z, y, **o)),
    "focal": ({"gamma": 0.7}, lambda z, y, **o: losses.focal_loss(z, y, gamma=0.7, **o)),
    "softmax_focal": ({"gamma": 0.7}, lambda z, y, **o: losses.softmax_focal_loss(z, y, gamma=0.7, **o)),
    "ldam": ({"max_margin": 0.4, "scale": 20.0}, lambda z, y, **o: losses.ldam_loss(z, y, MARGINS, scale=20.0, **o)),
    "ldam, uniform": (
        {"loss": "ldam", "max_margin": 0.4, "margin_rule": "uniform"},
        lambda z, y, **o: losses.ldam_loss(z, y, UNIFORM, **o),
    ),
    "hinge": ({"max_margin": 0.4}, lambda z, y, **o: losses.hinge_loss(z, y, MARGINS, **o)),
    "hinge, uniform": (
        {"loss": "hinge", "max_margin": 0.4, "margin_rule": "uniform"},
        lambda z, y, **o: losses.hinge_loss(z, y, UNIFORM, **o),
    ),
    "balanced_softmax": ({}, lambda z, y, **o: losses.balanced_softmax_loss(z, y, PRIOR, **o)),
    "logit_adjusted": ({"tau": 0.5}, lambda z, y, **o: losses.logit_adjusted_loss(z, y, PRIOR, tau=0.5, **o)),
}


@pytest.mark.parametrize("normalization", ["batch", "weights"])
@pytest.mark.parametrize("name", REFERENCES)
def test_the_loss_is_that_of_the_library_with_the_same_reduction(name, normalization):
    fields, reference = REFERENCES[name]
    config = BASE.changed(**{"loss": name, "weighting": "inverse", "normalization": normalization, **fields})
    weight = torch.as_tensor(counts.inverse_frequency_weights(COUNTS))
    logits, targets = batch()
    loss = build.build_loss(config, COUNTS, "cpu")(0)
    expected = reference(logits, targets, weight=weight, normalization=normalization)
    torch.testing.assert_close(loss(logits, targets), expected)
    plain = build.build_loss(config.changed(weighting="none", normalization="batch"), COUNTS, "cpu")(0)
    torch.testing.assert_close(plain(logits, targets), reference(logits, targets))


@pytest.mark.parametrize("normalization", ["batch", "weights"])
def test_an_objective_keeps_the_members_of_a_stack_apart(normalization):
    objective = Objective(
        lambda z, y: losses.softmax_loss(z, y, reduction="none"),
        torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64),
        normalization,
    )
    logits, targets = batch((4,))
    together = objective(logits, targets)
    assert together.shape == (4,)
    for position in range(4):
        torch.testing.assert_close(together[position], objective(logits[position], targets[position]))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"weighting": "inverse"}, counts.inverse_frequency_weights(COUNTS)),
        ({"weighting": "inverse_sqrt"}, counts.inverse_frequency_weights(COUNTS, 0.5)),
        ({"weighting": "effective_number", "beta": 0.9}, counts.class_balanced_weights(COUNTS, 0.9)),
    ],
)
def test_weights_are_those_of_counts_and_start_when_deferred(fields, expected):
    config = BASE.changed(**fields, defer_until=0.8)
    loss_at = build.build_loss(config, COUNTS, "cpu")
    assert [loss_at(epoch).weight is None for epoch in range(5)] == [True] * 4 + [False]
    np.testing.assert_allclose(loss_at(4).weight.numpy(), expected)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_sweep_may_reach_the_ends_of_beta_without_warnings(beta):
    build.build_loss(BASE.changed(weighting="effective_number", beta=beta), COUNTS, "cpu")


def class_shares(config, epoch, repeats=60):
    targets = torch.as_tensor(np.repeat(np.arange(3), COUNTS))
    order = build.build_order(config, targets, COUNTS)
    rng = torch.Generator().manual_seed(0)
    drawn = torch.cat([targets[order(epoch, rng)] for _ in range(repeats)])
    assert len(drawn) == repeats * COUNTS.sum()
    return np.bincount(drawn.numpy(), minlength=3) / len(drawn)


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ({"sampling": "inverse"}, {"scheme": "inverse"}),
        ({"sampling": "sqrt"}, {"scheme": "sqrt"}),
        ({"sampling": "effective_number", "beta": 0.9}, {"scheme": "effective_number", "beta": 0.9}),
        ({"sampling": "progressive"}, {"scheme": "progressive", "progress": 0.5}),
    ],
)
def test_re_sampled_epochs_have_the_class_shares_of_their_scheme(fields, scheme):
    expected = samplers.sampling_probabilities(COUNTS, **scheme)
    np.testing.assert_allclose(class_shares(BASE.changed(**fields), epoch=2), expected, atol=0.035)


def test_deferred_sampling_visits_every_sample_once_before():
    config = BASE.changed(sampling="inverse", defer_until=0.8)
    np.testing.assert_allclose(class_shares(config, epoch=3, repeats=1), COUNTS / COUNTS.sum())
    np.testing.assert_allclose(class_shares(config, epoch=4), [1 / 3] * 3, atol=0.035)
    np.testing.assert_allclose(class_shares(BASE, epoch=4, repeats=1), COUNTS / COUNTS.sum())


def test_the_learning_rate_follows_its_fields():
    rate = build.build_learning_rate(BASE.changed(epochs=10, learning_rate=0.5, warmup=0.2, lr_decay=0.1))
    assert [rate(epoch) for epoch in (0, 1, 7, 8, 9)] == pytest.approx([0.25, 0.5, 0.5, 0.05, 0.005])


class CudaGenerator(torch.Generator):
    """A CPU generator that says it lives on a GPU, for tensors that only pretend to."""

    device = torch.device("cuda", 0)


@pytest.mark.parametrize("method", METHODS)
def test_no_step_makes_the_host_wait_for_a_gpu(method):
    # A tensor without data raises as soon as the host asks for a value: there it would wait for the device.
    from torch._subclasses.fake_tensor import FakeTensorMode

    config = method_config(method, epochs=5, model="mlp" if method != "LDAM-DRW" else "resnet8", augment=True)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        statistics = torch.empty(3), torch.empty(3)

        def augmented(images, rng):
            return augment.normalise(augment.pad_crop_flip(images, rng), *statistics)

        model = build.build_model(config, (3, 8, 8), 3)
        losses_of_epoch = _train_epoch(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1, foreach=True),
            torch.empty(20, 3, 8, 8, dtype=torch.uint8),
            torch.empty(20, dtype=torch.int64),
            torch.empty(20, dtype=torch.int64),
            build.build_loss(config, COUNTS, "cuda")(4),
            8,
            augmented,
            CudaGenerator(device="cpu"),
            # Gradients of such tensors need a driver; they are PyTorch's own operations.
            SimpleNamespace(global_rank=0, world_size=1, backward=lambda value: None),
        )
        assert (losses_of_epoch.device.type, losses_of_epoch.shape) == ("cuda", (3,))
        with pytest.raises(RuntimeError, match="_local_scalar_dense"):
            losses_of_epoch.sum().item()


def test_adam_takes_recorded_steps_like_plain_ones():
    ends = []
    for execution in ("plain", "graph"):
        model = build.build_model(BASE, (4,), 3).double()
        inputs = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        fit(
            model,
            inputs,
            (inputs[:, 0] > 0).long(),
            loss_at=lambda _epoch: losses.softmax_loss,
            learning_rate_at=lambda epoch: 0.01 / (epoch + 1),
            epochs=3,
            rng=torch.Generator().manual_seed(0),
            batch_size=6,
            make_optimizer=build.build_optimizer(BASE.changed(optimizer="adam")),
            parameters=parameter_groups(model, 0.01),
            fabric=make_fabric("cpu", "float64"),
            execution=execution,
        )
        ends.append([parameter.detach() for parameter in model.parameters()])
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_a_batch_of_zero_weights_has_the_loss_zero():
    objective = build.Objective(
        lambda z, y: losses.softmax_loss(z, y, reduction="none"), torch.tensor([0.0, 2.0]), "weights"
    )
    logits = torch.randn(2, 3, 2)
    values = objective(logits, torch.tensor([[0, 0, 0], [0, 1, 1]]))
    assert values[0] == 0
    torch.testing.assert_close(values[1], losses.softmax_loss(logits[1, 1:], torch.tensor([1, 1])))


def test_more_samples_than_there_are_is_refused_in_the_words_of_the_configuration(tiny):
    with pytest.raises(ValueError, match=r"`n_max` must not ask for more than class 0 has \(40\), got 1000\."):
        draw_subset(BASE.changed(n_max=1000), tiny)
    turned = BASE.changed(n_max=50, imbalance_type="reversed_step")
    with pytest.raises(ValueError, match=r"`n_max` must not ask for more than class 2 has \(40\), got 50\."):
        draw_subset(turned, tiny)
    with pytest.raises(ValueError, match=r"`n_max` must not ask for more than class 1 has \(40\), got 50\."):
        draw_subset(BASE.changed(n_max=50), tiny, np.array([1, 0, 2]))


def test_a_class_without_a_sample_is_named(tiny):
    train = Split(tiny.train.inputs[:80], tiny.train.targets[:80])
    with pytest.raises(ValueError, match="`dataset` must have a training sample in every class, got none of class 2"):
        draw_subset(BASE, Dataset("tiny", train, tiny.test, 3, tiny.class_names))


@pytest.mark.parametrize("order", [[0, 1], np.arange(10) + 5, np.zeros(10, dtype=int)])
def test_an_order_of_the_subset_names_every_class_once(order):
    with pytest.raises(ValueError, match="`class_order` must"):
        draw_subset(RunConfig(dataset="digits", n_max=20), data.load("digits"), order)


def uneven(counts_of):
    targets = np.repeat(np.arange(len(counts_of)), counts_of)
    split = Split(np.zeros((len(targets), 4), np.float32), targets)
    return Dataset("uneven", split, split, len(counts_of), tuple(map(str, range(len(counts_of)))))


def test_a_natural_set_is_the_whole_split():
    config = BASE.changed(imbalance_type="natural", n_max=0)
    subset = draw_subset(config, uneven([4, 40, 12]))
    assert subset.class_counts.tolist() == [4, 40, 12]
    assert sorted(subset.train) == list(range(56))
    assert class_profile(config, np.array([4, 40, 12])).tolist() == [40, 12, 4]


def test_a_natural_set_can_hold_out_and_its_row_says_what_it_was():
    dataset = uneven([8, 40, 12])
    config = BASE.changed(imbalance_type="natural", n_max=0, validation_per_class=4, epochs=1, dataset="uneven")
    assert draw_subset(config, dataset).class_counts.tolist() == [4, 36, 8]
    row = run(config, dataset=dataset).to_row()
    assert (row["imbalance_type"], row["imbalance_ratio"], row["class_counts"]) == ("natural", 9.0, "4 36 8")


@pytest.mark.parametrize("change", [{"n_max": 5}, {"permute_classes": True}])
def test_a_natural_set_draws_nothing(change):
    with pytest.raises(ValueError, match="`(n_max|permute_classes)` must be left at .* 'natural' takes every sample"):
        RunConfig(imbalance_type="natural", **change)
