import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lt_lib.metrics import balanced_accuracy
from lt_lib.models import MLP, CifarResNet, StackedModel, parameter_groups, seeded
from lt_lib.training import (
    CheckpointError,
    NonFiniteLossError,
    deferred,
    fit,
    load_checkpoint,
    make_fabric,
    predict,
    shuffled,
    step_learning_rate,
)
from lt_lib.training import loop as loop_module


@pytest.fixture
def samples():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(20, 4, generator=rng), torch.randint(3, (20,), generator=rng)


def model():
    return seeded(lambda: MLP(4, 3, hidden=8), 0)


def seed(number=0):
    return torch.Generator().manual_seed(number)


def train(net, samples, **options):
    settings = {
        "loss_at": lambda _epoch: F.cross_entropy,
        "learning_rate_at": lambda _epoch: 0.1,
        "epochs": 2,
        "rng": seed(),
        "batch_size": 8,
    }
    return fit(net, *samples, **(settings | options))


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_two_epochs_equal_plain_pytorch(samples):
    inputs, targets = samples
    rates = [0.2, 0.05]
    expected, rng, means = model(), seed(), []
    # Velocity v <- 0.7 v + g + 0.01 w, then w <- w - rate v: momentum and decay written out.
    velocity = [torch.zeros_like(parameter) for parameter in expected.parameters()]
    for epoch in range(2):
        order, losses = torch.randperm(20, generator=rng), []
        for batch in (order[:8], order[8:16], order[16:]):
            loss = F.cross_entropy(expected(inputs[batch]), targets[batch])
            gradients = torch.autograd.grad(loss, list(expected.parameters()))
            losses.append(float(loss.detach()))
            with torch.no_grad():
                for parameter, moving, gradient in zip(expected.parameters(), velocity, gradients, strict=True):
                    moving.mul_(0.7).add_(gradient + 0.01 * parameter)
                    parameter.sub_(rates[epoch] * moving)
        means.append(sum(losses) / 3)
    net = model()
    groups = parameter_groups(net, 0.01)
    history = train(net, samples, learning_rate_at=rates.__getitem__, momentum=0.7, parameters=groups)
    torch.testing.assert_close(weights(net), weights(expected), rtol=1e-5, atol=1e-6)
    assert history.train_loss == pytest.approx(means, rel=1e-5)
    assert history.learning_rate == rates
    assert history.epochs == 2
    assert history.seconds > 0


def test_float64_keeps_all_its_digits(samples):
    inputs, targets = samples[0].double(), samples[1]
    net, expected = model(), model().double()
    history = train(net, (inputs, targets), epochs=1, batch_size=20, fabric=make_fabric("cpu", "float64"))
    loss = F.cross_entropy(expected(inputs), targets)
    loss.backward()
    assert history.train_loss[0] == pytest.approx(loss.item(), rel=1e-14)
    for found, parameter in zip(net.parameters(), expected.parameters(), strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.detach(), parameter.detach() - 0.1 * parameter.grad, rtol=1e-12, atol=1e-14)


def test_bfloat16_multiplies_coarsely_and_keeps_float32_weights(samples):
    coarse, fine = model(), model()
    seen = []

    def loss(logits, targets):
        seen.append(logits.dtype)
        return F.cross_entropy(logits, targets)

    train(coarse, samples, loss_at=lambda _: loss, fabric=make_fabric("cpu", "bfloat16"))
    train(fine, samples)
    assert {parameter.dtype for parameter in coarse.parameters()} == {torch.float32}
    assert set(seen) == {torch.float32}
    assert 0 < float((weights(coarse) - weights(fine)).abs().max()) < 0.05


def test_evaluation_every_k_epochs_and_after_the_last(samples):
    net = model()
    history = train(
        net, samples, epochs=5, evaluate_every=2, evaluation={"test": samples, "held": (samples[0][:9], samples[1][:9])}
    )
    assert history.evaluated == [1, 3, 4]
    assert {name: len(values) for name, values in history.accuracy.items()} == {"test": 3, "held": 3}
    assert history.accuracy["test"][-1] == balanced_accuracy(samples[1], predict(net, samples[0]).argmax(1), 3)
    assert history.accuracy["held"][-1] == balanced_accuracy(samples[1][:9], predict(net, samples[0][:9]).argmax(1), 3)


def test_evaluation_does_not_disturb_training(samples):
    quiet, watched = seeded(lambda: CifarResNet(8, 3), 0), seeded(lambda: CifarResNet(8, 3), 0)
    images = torch.randn(12, 3, 8, 8, generator=seed(1)), samples[1][:12]
    train(quiet, images, evaluate_every=2)
    train(watched, images, evaluate_every=1, evaluation={"test": images})
    assert watched.training
    for name, value in quiet.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_predict_uses_evaluation_mode_in_parts_and_restores_the_mode():
    net = seeded(lambda: CifarResNet(8, 3), 0).train()
    images = torch.randn(7, 3, 8, 8, generator=seed(1))
    before = copy.deepcopy(net.state_dict())
    logits = predict(net, images, batch_size=3)
    assert net.training
    torch.testing.assert_close(logits, copy.deepcopy(net).eval()(images).detach(), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert predict(copy.deepcopy(net).bfloat16(), images.bfloat16()).dtype == torch.float32
    assert predict(copy.deepcopy(net).double(), images.double()).dtype == torch.float64
    net.eval()
    predict(net, images)
    assert not net.training


def frozen_part():
    """A network in training mode whose first batch normalisation was frozen."""
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    net[0].eval()
    return net


def modes(net):
    return [module.training for module in net.modules()]


def test_predict_leaves_a_frozen_part_frozen(samples):
    net = frozen_part()
    before = modes(net)
    predict(net, samples[0])
    assert modes(net) == before == [True, False, True, True]
    with pytest.raises(RuntimeError):
        predict(net, samples[0][:, :2])
    assert modes(net) == before


def test_the_template_of_a_stack_gets_its_mode_back():
    stack = StackedModel([nn.Sequential(nn.Linear(4, 3), OnlyInTraining()) for _ in range(2)])
    inputs = torch.ones(2, 5, 4)
    before = stack(inputs)
    with loop_module.evaluating(stack):
        assert not torch.equal(stack(inputs), before)
    assert torch.equal(stack(inputs), before)


class OnlyInTraining(nn.Module):
    """Doubles its input while training."""

    def forward(self, inputs):
        return 2 * inputs if self.training else inputs


def test_deferred_loss_and_order_change_at_their_epoch(samples):
    losses, orders = [], []

    def loss(name):
        def value(logits, targets):
            losses.append(name)
            return F.cross_entropy(logits, targets)

        return value

    def order(name):
        def indices(epoch, rng):
            orders.append((epoch, name))
            return shuffled(20)(epoch, rng)

        return indices

    stage = deferred(5, 0.8, order("plain"), order("drawn"))
    train(
        model(),
        samples,
        epochs=5,
        batch_size=20,
        loss_at=deferred(5, 0.8, loss("plain"), loss("weighted")),
        order_at=lambda epoch, rng: stage(epoch)(epoch, rng),
    )
    assert losses == ["plain"] * 4 + ["weighted"]
    assert orders == [(0, "plain"), (1, "plain"), (2, "plain"), (3, "plain"), (4, "drawn")]


def test_an_order_may_repeat_and_leave_out_samples(samples):
    net, expected = model(), model()
    picked = torch.tensor([3, 3, 7])
    train(net, samples, epochs=1, order_at=lambda _epoch, _rng: picked)
    loss = F.cross_entropy(expected(samples[0][picked]), samples[1][picked])
    loss.backward()
    for found, parameter in zip(net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found.detach(), parameter.detach() - 0.1 * parameter.grad)


def test_shuffled_visits_every_sample_in_a_new_order():
    rng = seed()
    first, second = shuffled(50)(0, rng), shuffled(50)(1, rng)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)


def noisy(batch, rng):
    return batch + 0.1 * torch.randn(batch.shape, generator=rng)


def resumable(path, samples, net, **options):
    return train(
        net,
        samples,
        epochs=5,
        learning_rate_at=step_learning_rate(5, 0.1),
        augment=noisy,
        evaluation={"test": samples},
        evaluate_every=2,
        checkpoint=path,
        identity="me",
        parameters=parameter_groups(net, 1e-3, decay_on="all_but_head_bias"),
        **options,
    )


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, samples, stop):
    whole, broken = model(), model()
    expected = resumable(tmp_path / "whole.pt", samples, whole)
    resumable(tmp_path / "broken.pt", samples, broken, stop_after=stop)
    # Another process would start from fresh weights and a fresh generator.
    resumed = seeded(lambda: MLP(4, 3, hidden=8), 99)
    history = resumable(tmp_path / "broken.pt", samples, resumed, rng=seed(99))
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(weights(broken), weights(whole))
    assert (history.train_loss, history.evaluated) == (expected.train_loss, expected.evaluated)
    assert (history.accuracy, history.learning_rate) == (expected.accuracy, expected.learning_rate)
    one, two = (load_checkpoint(tmp_path / name, identity="me") for name in ("whole.pt", "broken.pt"))
    assert torch.equal(one["rng"], two["rng"])


def test_a_resnet_with_channels_last_resumes_in_the_same_bits(tmp_path, samples):
    images = torch.randn(16, 3, 8, 8, generator=seed(1)), samples[1][:16]
    images = images[0].contiguous(memory_format=torch.channels_last), images[1]

    def net(number):
        return seeded(lambda: CifarResNet(8, 3), number).to(memory_format=torch.channels_last)

    whole, first, second = net(0), net(0), net(5)
    train(whole, images, epochs=3)
    train(first, images, epochs=3, checkpoint=tmp_path / "run.pt", stop_after=2)
    train(second, images, epochs=3, checkpoint=tmp_path / "run.pt", rng=seed(7))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path, samples):
    net = model()
    first = resumable(tmp_path / "run.pt", samples, net)
    other = seeded(lambda: MLP(4, 3, hidden=8), 9)
    again = resumable(tmp_path / "run.pt", samples, other)
    assert torch.equal(weights(other), weights(net))
    assert again == first


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path, samples):
    train(model(), samples, epochs=1, checkpoint=tmp_path / "run.pt", identity="one")
    with pytest.raises(CheckpointError, match="`identity` must be 'two', got 'one'"):
        train(model(), samples, checkpoint=tmp_path / "run.pt", identity="two")


def test_snapshots_keep_the_state_of_their_epoch(tmp_path, samples):
    train(model(), samples, epochs=3, checkpoint=tmp_path / "run.pt", snapshots={2})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run.pt", "run.pt.epoch2"]
    expected = model()
    train(expected, samples, epochs=2)
    state = load_checkpoint(tmp_path / "run.pt.epoch2", identity="")
    assert all(torch.equal(value, state["model"][name]) for name, value in expected.state_dict().items())
    assert len(state["history"]["train_loss"]) == 2
    with pytest.raises(ValueError, match=r"`snapshots` must be empty without a `checkpoint`, got \[2\]"):
        train(model(), samples, snapshots={2})


def exploding(first_epoch, step):
    calls = []

    def loss_at(epoch):
        calls.clear()

        def loss(logits, targets):
            calls.append(epoch)
            value = F.cross_entropy(logits, targets)
            return value * float("nan") if epoch == first_epoch and len(calls) > step else value

        return loss

    return loss_at


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (1, 2)])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_samples(tmp_path, samples, epoch, step):
    rng = seed()
    orders = [torch.randperm(20, generator=rng) for _ in range(2)]
    expected = orders[epoch][8 * step : 8 * step + 8].tolist()
    with pytest.raises(NonFiniteLossError, match=rf"first at epoch {epoch}, step {step} ") as caught:
        train(model(), samples, epochs=3, loss_at=exploding(epoch, step), checkpoint=tmp_path / "run.pt")
    assert (caught.value.epoch, caught.value.step, caught.value.indices) == (epoch, step, expected)
    assert ", ".join(map(str, expected)) in str(caught.value)
    if epoch == 0:
        assert not (tmp_path / "run.pt").exists()
        return
    # The checkpoint is that of the last good epoch, and a run can go on from it.
    good = model()
    train(good, samples, epochs=1)
    state = load_checkpoint(tmp_path / "run.pt", identity="")
    assert all(torch.equal(value, state["model"][name]) for name, value in good.state_dict().items())
    resumed, whole = model(), model()
    train(resumed, samples, epochs=3, checkpoint=tmp_path / "run.pt")
    train(whole, samples, epochs=3)
    assert torch.equal(weights(resumed), weights(whole))


class HostReads(TorchDispatchMode):
    """Counts operations that make the host wait for a device."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "_unique2")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.WAITING:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def test_nothing_inside_an_epoch_waits_for_the_device(samples, monkeypatch):
    inside, real = [], loop_module._train_epoch

    def watched(*arguments):
        with HostReads() as mode:
            losses = real(*arguments)
        inside.append(mode.found)
        return losses

    monkeypatch.setattr(loop_module, "_train_epoch", watched)
    with HostReads() as outside:
        train(model(), samples, augment=noisy, batch_size=2)
    assert inside == [[], []]
    assert outside.found  # the mode does see the one look per epoch
    with HostReads() as mode:
        bool(samples[0].sum() > 0)
    assert mode.found == ["_local_scalar_dense"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "`epochs` must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer of at least 1, got 0"),
        ({"evaluate_every": 0}, ValueError, "`evaluate_every` must be an integer of at least 1, got 0"),
        ({"epochs": 2.5}, TypeError, "`epochs` must be an integer, got 2.5"),
        ({"batch_size": True}, TypeError, "`batch_size` must be an integer, got True"),
    ],
)
def test_wrong_numbers_are_refused(samples, options, error, message):
    with pytest.raises(error, match=message):
        train(model(), samples, **options)


def test_unequal_lengths_are_refused(samples):
    with pytest.raises(ValueError, match="`inputs` and `targets` must be equally long, not empty, got 20 and 19"):
        train(model(), (samples[0], samples[1][:-1]))
    with pytest.raises(ValueError, match="got 0 and 0"):
        train(model(), (samples[0][:0], samples[1][:0]))


def test_the_progress_bar_counts_epochs_of_the_whole_run(tmp_path, samples, monkeypatch):
    import tqdm.auto

    shown = []
    monkeypatch.setattr(
        tqdm.auto, "trange", lambda first, last, **options: shown.append((first, last, options)) or range(first, last)
    )
    train(model(), samples, epochs=3, checkpoint=tmp_path / "run.pt", stop_after=1)
    train(model(), samples, epochs=3, checkpoint=tmp_path / "run.pt", progress=True)
    assert shown == [(1, 3, {"desc": "epoch", "initial": 1, "total": 3})]


@pytest.mark.parametrize("stop_after", [-1, 1.5])
def test_the_end_of_a_shortened_run_is_a_number_of_epochs(stop_after):
    with pytest.raises((ValueError, TypeError), match="`stop_after` must be"):
        loop_module.leave_after(5, stop_after)
    assert [loop_module.leave_after(5, early) for early in (None, 0, 3, 9)] == [5, 0, 3, 5]


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.1, float("nan")])
def test_a_momentum_out_of_range_is_named(samples, momentum):
    with pytest.raises(ValueError, match="`momentum` must be a (finite )?number.*, got"):
        train(model(), samples, momentum=momentum)
