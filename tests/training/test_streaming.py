import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lt_lib import metrics
from lt_lib.training import CheckpointError, NonFiniteLossError, count_hits, fit_stream, make_fabric

CLASSES = 7


class Listed:
    """A stream of given tensors, reordered by the epoch, in batches of `size`."""

    def __init__(self, inputs, size, shuffled=True):
        self.inputs, self.size, self.shuffled = inputs, size, shuffled
        self.steps = -(-len(inputs) // size)

    def order(self, epoch):
        rng = torch.Generator().manual_seed(epoch)
        return torch.randperm(len(self.inputs), generator=rng) if self.shuffled else torch.arange(len(self.inputs))

    def epoch(self, epoch):
        for batch in self.order(epoch).split(self.size):
            yield self.inputs[batch], batch, batch


class Weighted:
    """Cross entropy with class weights, divided by the weights of the batch."""

    def __init__(self, weight):
        self.weight = weight

    def total(self, logits, targets):
        return (F.cross_entropy(logits, targets, reduction="none") * self.weight[targets]).sum()

    def divisor(self, targets):
        return self.weight[targets].sum()


@pytest.fixture
def world():
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(23, 5, generator=rng, dtype=torch.float64)
    return inputs, torch.arange(23) % CLASSES


def linear():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(5, CLASSES).double()


def doubled(images):
    return 2 * images


def fitted(world, model=None, **changes):
    inputs, targets = world
    model = model or linear()
    weight = torch.arange(1, CLASSES + 1).double()
    options = {
        "loss_at": lambda _epoch: Weighted(weight),
        "learning_rate_at": lambda progress: 0.1 + 0.05 * progress,
        "epochs": 3,
        "num_classes": CLASSES,
        "prepare": doubled,
        "fabric": make_fabric("cpu", "float64"),
    }
    history = fit_stream(model, Listed(inputs, 8), targets, **options | changes)
    return model, history


def by_hand(world, *, momentum=0.9, nesterov=False, epochs=3):
    """SGD written out: v <- m v + g, and a step along v, or along g + m v ahead of it."""
    inputs, targets = world
    model, weight = linear(), torch.arange(1, CLASSES + 1).double()
    speed = [torch.zeros_like(parameter) for parameter in model.parameters()]
    losses = []
    for epoch in range(epochs):
        order = Listed(inputs, 8).order(epoch)
        for step, batch in enumerate(order.split(8)):
            log_p = torch.log_softmax(model(2 * inputs[batch]), dim=1)
            picked = weight[targets[batch]]
            loss = -(log_p[range(len(batch)), targets[batch]] * picked).sum() / picked.sum()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            rate = 0.1 + 0.05 * (epoch + step / 3)
            for parameter, velocity, gradient in zip(model.parameters(), speed, gradients, strict=True):
                velocity.mul_(momentum).add_(gradient)
                parameter.data -= rate * (gradient + momentum * velocity if nesterov else velocity)
            losses.append(loss.item())
    return model, np.array(losses).reshape(epochs, -1).mean(axis=1)


def same_weights(one, two, **tolerance):
    for left, right in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(left, right, **(tolerance or {"rtol": 1e-10, "atol": 1e-12}))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_training_is_sgd_with_the_rate_of_every_step(world, nesterov, momentum):
    model, history = fitted(world, nesterov=nesterov, momentum=momentum)
    expected, losses = by_hand(world, nesterov=nesterov, momentum=momentum)
    same_weights(model, expected)
    # Per-step losses are kept in single precision.
    assert history.train_loss == pytest.approx(losses, rel=1e-6)
    assert history.learning_rate == pytest.approx([0.1 + 0.05 * (epoch + 2 / 3) for epoch in range(3)])


@pytest.mark.parametrize("micro_batch", [1, 3, 7, 8, 100])
def test_a_batch_in_parts_is_the_batch(world, micro_batch):
    model, history = fitted(world, micro_batch=micro_batch)
    whole, whole_history = fitted(world)
    same_weights(model, whole)
    assert history.train_loss == pytest.approx(whole_history.train_loss, rel=1e-6)


def test_a_forward_pass_is_no_larger_than_asked(world):
    sizes = []
    model = linear()
    model.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    fitted(world, model, micro_batch=3, epochs=1)
    assert sizes == [3, 3, 2, 3, 3, 2, 3, 3, 1]


def test_the_loss_is_a_schedule(world):
    asked = []
    weight = torch.ones(CLASSES, dtype=torch.float64)
    fitted(world, loss_at=lambda epoch: asked.append(epoch) or Weighted(weight))
    assert asked == [0, 1, 2]


def test_optimiser_groups_are_used(world):
    model = linear()
    fitted(world, model, parameters=[{"params": [model.weight], "weight_decay": 0.5}])
    assert torch.equal(model.bias, linear().bias)
    plain, _ = fitted(world)
    assert float(model.weight.detach().norm()) < float(plain.weight.detach().norm())


def test_evaluation_counts_what_it_says(world):
    inputs, targets = world
    model = linear()
    held = Listed(inputs, 6, shuffled=False)
    hits = count_hits(model, held, targets, CLASSES, prepare=doubled, fabric=make_fabric("cpu", "float64"))
    with torch.no_grad():
        logits = model(2 * inputs)
    predictions = logits.argmax(dim=1)
    assert hits.samples.tolist() == torch.bincount(targets, minlength=CLASSES).tolist()
    np.testing.assert_allclose(hits.recall, metrics.per_class_recall(targets, predictions, CLASSES))
    assert hits.accuracy == pytest.approx(float((predictions == targets).double().mean()))
    assert hits.mean_recall == pytest.approx(metrics.balanced_accuracy(targets, predictions, num_classes=CLASSES))
    # Rank by counting: among the first five are those with at most four larger logits.
    larger = (logits > logits.gather(1, targets[:, None])).sum(dim=1)
    assert hits.top5_accuracy == pytest.approx(float((larger < 5).double().mean()))
    assert 0 < hits.top1.sum() < hits.top5.sum() < len(targets)


def test_a_class_without_samples_is_left_out_of_the_mean(world):
    inputs, targets = world
    keep = targets != 2
    hits = count_hits(
        linear(), Listed(inputs[keep], 6), targets[keep], CLASSES, prepare=doubled, fabric=make_fabric("cpu", "float64")
    )
    assert np.isnan(hits.recall[2])
    assert hits.mean_recall == pytest.approx(np.nanmean(hits.recall))
    assert np.isfinite(hits.mean_recall)


def test_fewer_than_five_classes_have_a_top5_of_all(world):
    inputs, _ = world
    hits = count_hits(
        nn.Linear(5, 3).double(),
        Listed(inputs, 6),
        torch.arange(23) % 3,
        3,
        prepare=doubled,
        fabric=make_fabric("cpu", "float64"),
    )
    assert hits.top5_accuracy == 1


def test_evaluation_is_without_training_and_leaves_the_mode(world):
    inputs, targets = world
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.9), nn.Linear(5, CLASSES)).double().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = (
        count_hits(model, Listed(inputs, size), targets, CLASSES, prepare=doubled, fabric=make_fabric("cpu", "float64"))
        for size in (6, 23)
    )
    assert one.top1.tolist() == two.top1.tolist()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("every", "evaluated"), [(1, [0, 1, 2]), (2, [1, 2]), (5, [2])])
def test_sets_are_evaluated_as_often_as_asked_and_at_the_end(world, every, evaluated):
    inputs, targets = world
    held = (Listed(inputs, 6, shuffled=False), targets)
    model, history = fitted(world, evaluation={"test": held, "other": held}, evaluate_every=every)
    assert history.evaluated == evaluated
    assert set(history.accuracy) == {
        f"{name}{part}" for name in ("test", "other") for part in ("", "_top5", "_mean_recall")
    }
    last = count_hits(model, *held, CLASSES, prepare=doubled, fabric=make_fabric("cpu", "float64"))
    for part, value in (("", last.accuracy), ("_top5", last.top5_accuracy), ("_mean_recall", last.mean_recall)):
        assert history.accuracy[f"test{part}"][-1] == value
        assert len(history.accuracy[f"test{part}"]) == len(evaluated)


def test_a_run_that_was_left_goes_on_to_the_same_bits(world, tmp_path):
    inputs, targets = world
    options = {"evaluation": {"test": (Listed(inputs, 6), targets)}, "checkpoint": tmp_path / "a.pt", "identity": "x"}
    whole, whole_history = fitted(world, **options | {"checkpoint": None})
    reported = []
    _, half = fitted(world, **options, stop_after=2, report=lambda history: reported.append(history.epochs))
    assert half.epochs == 2
    resumed, history = fitted(world, **options, report=lambda history: reported.append(history.epochs))
    assert reported == [1, 2, 3]
    same_weights(resumed, whole, rtol=0, atol=0)
    assert (history.train_loss, history.accuracy) == (whole_history.train_loss, whole_history.accuracy)
    assert history.seconds > half.seconds
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        fitted(world, **options | {"identity": "y"})


def test_a_loss_that_is_not_finite_names_the_step(world, tmp_path):
    inputs, targets = world
    bad = inputs.clone()
    bad[4] = float("nan")
    with pytest.raises(NonFiniteLossError) as caught:
        fitted((bad, targets), checkpoint=tmp_path / "a.pt")
    assert caught.value.epoch == 0
    order = Listed(inputs, 8).order(0).split(8)
    first = next(step for step, batch in enumerate(order) if 4 in batch)
    assert (caught.value.step, caught.value.indices) == (first, order[first].tolist())
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("evaluate_every", 0), ("micro_batch", -1)])
def test_lengths_are_checked(world, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least {value + 1}, got {value}"):
        fitted(world, **{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": -0.1}, r"`momentum` must be a number in \[0, 1\), got -0.1"),
        ({"momentum": 1.0}, r"`momentum` must be a number in \[0, 1\), got 1.0"),
        ({"momentum": 0.0, "nesterov": True}, "`nesterov` must be False without momentum"),
    ],
)
def test_a_momentum_out_of_range_is_named(world, changes, message):
    with pytest.raises(ValueError, match=message):
        fitted(world, **changes)


def test_counting_hits_leaves_a_frozen_part_frozen(world):
    inputs, targets = world
    net = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, CLASSES)).double().train()
    net[0].eval()
    fabric = make_fabric("cpu", "float64")
    count_hits(net, Listed(inputs, 6), targets, CLASSES, prepare=doubled, fabric=fabric)
    assert [module.training for module in net.modules()] == [True, False, True]
    with pytest.raises(RuntimeError):
        count_hits(net, Listed(inputs[:, :3], 6), targets, CLASSES, prepare=doubled, fabric=fabric)
    assert [module.training for module in net.modules()] == [True, False, True]
