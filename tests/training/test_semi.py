import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lt_lib.metrics import balanced_accuracy
from lt_lib.models import MLP, StackedModel, WideResNet, parameter_groups, seeded
from lt_lib.training import (
    CheckpointError,
    NonFiniteLossError,
    Stream,
    WeightAverage,
    cosine_learning_rate,
    fit_semi,
    fit_semi_stacked,
    fixmatch,
    make_fabric,
    mean_teacher,
    predict,
    predict_pool,
    pseudo_label,
    ramp_up,
)

CLASSES = 3
RULES = {
    "fixmatch": fixmatch(0.4),
    "soft": fixmatch(0.4, temperature=1.0),
    "pseudo-label": pseudo_label(0.4),
    "mean teacher": mean_teacher(),
    "none": None,
}


@pytest.fixture
def pool():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(60, 4, dtype=torch.float64, generator=rng) + torch.arange(60)[:, None] % CLASSES


def seed(number=0):
    return torch.Generator().manual_seed(number)


def model(number=0):
    return seeded(lambda: MLP(4, CLASSES, hidden=6), number).double()


def noise(scale):
    return lambda inputs, rng: inputs + scale * torch.randn(inputs.shape, generator=rng, dtype=inputs.dtype)


def stream(number=0, labelled=7, unlabelled=40):
    positions = torch.arange(labelled) + number
    return Stream(positions, positions % CLASSES, torch.arange(60 - unlabelled, 60), seed(number))


def settings(**changes):
    return {
        "rule": fixmatch(0.4),
        "weak": noise(0.1),
        "strong": noise(0.8),
        "learning_rate_at": cosine_learning_rate(0.1, 6, level=7),
        "epochs": 2,
        "steps_per_epoch": 3,
        "num_classes": CLASSES,
        "batch_size": 4,
        "unlabelled_ratio": 3,
        "alignment_window": 2,
        "ema_decay": 0.8,
    } | changes


def train(net, pool, data=None, **changes):
    return fit_semi(net, pool, data or stream(), fabric=make_fabric("cpu", "float64"), **settings(**changes))


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_the_schedule_of_the_authors_and_of_fixmatch():
    rate = cosine_learning_rate(0.03, 65536)
    assert rate(0) == 0.03
    assert rate(65536) == pytest.approx(0.0294, abs=5e-5)
    assert cosine_learning_rate(1.0, 10, level=7)(10) == pytest.approx(math.cos(7 * math.pi / 16))
    assert cosine_learning_rate(1.0, 10, level=8)(10) == pytest.approx(0, abs=1e-15)
    assert cosine_learning_rate(0.5, 10, level=0)(7) == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 5, 1), "`base` must be a number above 0, got 0.0"),
        ((float("nan"), 10, 1), "`base` must be a finite number, got nan"),
        ((0.1, 0, 1), "`steps` must be an integer of at least 1, got 0"),
        ((0.1, 5, 9), r"`level` must be a finite number in \[0.0, 8.0\], got 9"),
    ],
)
def test_wrong_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cosine_learning_rate(arguments[0], arguments[1], level=arguments[2])


@pytest.mark.parametrize(("arguments", "name"), [((True, 10), "base"), ((0.1, float("nan")), "steps")])
def test_schedules_of_wrong_types_are_refused(arguments, name):
    with pytest.raises(TypeError, match=f"`{name}` must be"):
        cosine_learning_rate(*arguments)


def test_the_ramp_rises_and_stays():
    assert [ramp_up(3.0, 3)(step) for step in (0, 1, 2, 3, 9)] == [0, 1, 2, 3, 3]
    assert ramp_up(3.0, 0)(0) == 3.0
    assert ramp_up(torch.tensor([1.0, 4.0]), 2)(1).tolist() == [0.5, 2.0]
    for weight in (-1.0, float("inf"), float("nan"), torch.tensor([1.0, float("inf")])):
        with pytest.raises(ValueError, match="`weight` must be finite and >= 0, got"):
            ramp_up(weight, 0)


@pytest.mark.parametrize("name", RULES)
def test_training_equals_plain_pytorch(pool, name):
    """Two epochs written out step by step: order, views, losses, alignment, Nesterov momentum, average."""
    data, rng, net = stream(), seed(), model()
    moving = [torch.zeros_like(parameter) for parameter in net.parameters()]
    average = [parameter.detach().clone() for parameter in net.parameters()]
    target = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    recent = [torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)] * 2
    rate, weak, strong, losses = cosine_learning_rate(0.1, 6, level=7), noise(0.1), noise(0.8), []
    for epoch in range(2):
        labelled = torch.cat([torch.randperm(7, generator=rng) for _ in range(2)])[:12].reshape(3, 4)
        if name != "none":
            unlabelled = torch.randperm(40, generator=rng)[:36].reshape(3, 12)
        for step in range(3):
            x, y = pool[data.labelled[labelled[step]]], data.labels[labelled[step]]
            loss = F.cross_entropy(net(weak(x, rng)), y)
            losses.append([loss.item(), 0.0])
            if name != "none":
                u = pool[data.unlabelled[unlabelled[step]]]
                view = weak(u, rng)
                if name == "mean teacher":
                    with torch.no_grad():
                        teacher = model()
                        torch.nn.utils.vector_to_parameters(
                            torch.cat([v.flatten() for v in average]), teacher.parameters()
                        )
                        q = teacher(view).softmax(dim=1)
                else:
                    q = net(view).softmax(dim=1)
                own = view if name == "pseudo-label" else (weak if name == "mean teacher" else strong)(u, rng)
                aligned = q.detach() * (1e-6 + target) / (1e-6 + torch.stack(recent[-2:]).mean(dim=0))
                aligned = aligned / aligned.sum(dim=1, keepdim=True)
                if name == "mean teacher":
                    extra = (net(own).softmax(dim=1) - aligned).pow(2).mean()
                else:
                    wanted = aligned if name == "soft" else aligned.argmax(dim=1)
                    each = F.cross_entropy(net(own), wanted, reduction="none")
                    extra = (each * (aligned.max(dim=1).values >= 0.4)).mean()
                recent.append(q.detach().mean(dim=0))
                losses[-1][1] = extra.item()
                loss = loss + 2.0 * extra
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for position, (parameter, gradient) in enumerate(zip(net.parameters(), gradients, strict=True)):
                    gradient = gradient + 0.01 * parameter
                    moving[position] = 0.9 * moving[position] + gradient
                    parameter.sub_(rate(3 * epoch + step) * (gradient + 0.9 * moving[position]))
                    average[position] = 0.8 * average[position] + 0.2 * parameter
    found = model()
    history, averaged = train(
        found,
        pool,
        rule=RULES[name],
        alignment=target,
        unlabelled_weight_at=ramp_up(2.0, 0),
        parameters=parameter_groups(found, 0.01),
    )
    torch.testing.assert_close(weights(found), weights(net), rtol=1e-10, atol=1e-12)
    expected = torch.cat([value.flatten() for value in average])
    torch.testing.assert_close(weights(averaged), expected, rtol=1e-10, atol=1e-12)
    table = torch.tensor(losses).reshape(2, 3, 2).mean(dim=1)
    assert history.labelled_loss == pytest.approx(table[:, 0].tolist(), rel=1e-5)
    assert history.unlabelled_loss == pytest.approx(table[:, 1].tolist(), rel=1e-5)
    assert history.learning_rate == [rate(2), rate(5)]
    if name == "none":
        assert history.mask_rate == [0, 0]
        assert history.model_mean == []
    else:
        means = torch.stack(recent[2:]).reshape(2, 3, CLASSES).mean(dim=1)
        torch.testing.assert_close(torch.tensor(history.model_mean), means.float())


@pytest.mark.parametrize("name", RULES)
def test_a_stack_trains_every_member_as_it_would_be_trained_alone(pool, name):
    """Members with sets of different sizes, as generations of self-training have them."""
    streams = [stream(0, 5, 40), stream(1, 9, 33), stream(2, 30, 20)]
    targets = [None, torch.tensor([0.6, 0.3, 0.1]), "running"]
    test = pool[:30], torch.arange(30) % CLASSES
    nets = [model(position) for position in range(3)]
    stack = StackedModel(nets)
    rule, weight = RULES[name], torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    thresholds = torch.tensor([[0.4], [0.6], [0.4]], dtype=torch.float64)
    makers = {"fixmatch": fixmatch, "pseudo-label": pseudo_label}
    options = {"evaluation": {"test": test}, "evaluate_every": 2}
    histories, average = fit_semi_stacked(
        stack,
        pool,
        streams,
        alignment=targets,
        unlabelled_weight_at=ramp_up(weight, 2),
        parameters=stack.parameter_groups(0.01),
        **settings(rule=makers[name](thresholds) if name in makers else rule, **options),
    )
    for position, (net, history) in enumerate(zip(nets, histories, strict=True)):
        own = [stream(0, 5, 40), stream(1, 9, 33), stream(2, 30, 20)][position]
        alone, averaged = train(
            net,
            pool,
            own,
            alignment=targets[position],
            unlabelled_weight_at=ramp_up(float(weight[position]), 2),
            parameters=parameter_groups(net, 0.01),
            **{"rule": makers[name](float(thresholds[position])) if name in makers else rule, **options},
        )
        for key, value in stack.member(position).items():
            torch.testing.assert_close(value, net.state_dict()[key], rtol=1e-9, atol=1e-11)
        for key, value in average.member(position).items():
            torch.testing.assert_close(value, averaged.state_dict()[key], rtol=1e-9, atol=1e-11)
        for field in ("labelled_loss", "unlabelled_loss", "mask_rate", "learning_rate"):
            assert getattr(history, field) == pytest.approx(getattr(alone, field), rel=1e-9)
        assert history.evaluated == alone.evaluated == [1]
        assert history.accuracy["test"] == pytest.approx(alone.accuracy["test"])
        torch.testing.assert_close(torch.tensor(history.model_mean), torch.tensor(alone.model_mean))
        assert history.starved == alone.starved
        rows = [own.unlabelled[: 4 + k] for k in range(3)]
        found = predict_pool(average, pool, rows, lambda inputs: inputs, batch_size=3)[position]
        torch.testing.assert_close(found, predict(averaged, pool[rows[position]]).softmax(dim=1))


def test_the_averaged_model_is_evaluated(pool):
    test = pool[:30], torch.arange(30) % CLASSES
    net = model()
    history, averaged = train(net, pool, epochs=3, evaluation={"test": test, "held": test}, evaluate_every=2)
    assert history.evaluated == [1, 2]
    assert set(history.accuracy) == {"test", "held"}
    expected = balanced_accuracy(test[1], predict(averaged, test[0]).argmax(dim=1), CLASSES)
    assert history.accuracy["test"][-1] == expected
    assert history.seconds > 0


def test_a_labelled_set_may_be_smaller_than_a_batch(pool):
    history, _ = train(model(), pool, stream(labelled=3), batch_size=8)
    assert history.epochs == 2


def test_a_sample_that_is_certain_enters_and_one_that_is_not_does_not(pool):
    never, _ = train(model(), pool, rule=fixmatch(1.0))
    always, _ = train(model(), pool, rule=fixmatch(0.0))
    assert (never.mask_rate, always.mask_rate) == ([0, 0], [1, 1])
    # Without a confident sample the unlabelled ones leave no trace but in the random draws.
    one, two = model(), model()
    train(one, pool, rule=fixmatch(1.0))
    train(two, pool, unlabelled_weight_at=lambda _step: 0.0)
    torch.testing.assert_close(weights(one), weights(two))


@pytest.mark.parametrize("name", ["fixmatch", "mean teacher", "none"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, pool, name, stop):
    options = {
        "rule": RULES[name],
        "alignment": torch.tensor([0.6, 0.3, 0.1]),
        "epochs": 4,
        "learning_rate_at": cosine_learning_rate(0.1, 12, level=7),
        "evaluation": {"test": (pool[:30], torch.arange(30) % CLASSES)},
        "identity": "me",
    }
    whole = model()
    expected, average = train(whole, pool, checkpoint=tmp_path / "whole.pt", **options)
    train(model(), pool, checkpoint=tmp_path / "run.pt", stop_after=stop, **options)
    # Another process would start from fresh weights and a fresh generator.
    resumed, data = model(99), stream()
    data.rng.manual_seed(99)
    history, again = train(resumed, pool, data, checkpoint=tmp_path / "run.pt", **options)
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(weights(again), weights(average))
    assert {**vars(history), "seconds": 0} == {**vars(expected), "seconds": 0}
    with pytest.raises(CheckpointError, match="`identity` must be 'other', got 'me'"):
        train(model(), pool, checkpoint=tmp_path / "run.pt", **(options | {"identity": "other"}))


def images():
    rng = seed(1)
    return torch.randn(24, 3, 8, 8, generator=rng), Stream(
        torch.arange(6), torch.arange(6) % CLASSES, torch.arange(24), seed()
    )


def wide(**changes):
    net = seeded(lambda: WideResNet(10, 1, CLASSES), 0)
    inputs, data = images()
    options = settings(
        weak=lambda x, rng: x + 0.1 * torch.randn(x.shape, generator=rng),
        strong=lambda x, rng: x + torch.randn(x.shape, generator=rng),
        steps_per_epoch=2,
        **changes,
    )
    _, average = fit_semi(net, inputs, data, **options)
    return net, average


def test_a_network_with_batch_statistics_resumes_in_the_same_bits(tmp_path):
    whole, average = wide()
    wide(checkpoint=tmp_path / "run.pt", stop_after=1)
    resumed, again = wide(checkpoint=tmp_path / "run.pt")
    for one, two in ((whole, resumed), (average, again)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name


def test_one_forward_pass_shares_the_batch_statistics():
    joint, _ = wide()
    apart, _ = wide(one_forward=False)
    assert not torch.allclose(weights(joint), weights(apart))
    # Statistics move once per pass: twice as often per step with three passes, and so with three times the count.
    assert int(joint.bn.num_batches_tracked) == 4
    assert int(apart.bn.num_batches_tracked) == 12


def test_without_batch_statistics_the_number_of_passes_does_not_matter(pool):
    one, two = model(), model()
    train(one, pool)
    train(two, pool, one_forward=False)
    torch.testing.assert_close(weights(one), weights(two))


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": fixmatch(0.8)},
        {"rule": fixmatch(0.4, temperature=1.0)},
        {"unlabelled_ratio": 1},
        {"unlabelled_weight_at": lambda _step: 0.3},
        {"unlabelled_weight_at": ramp_up(1.0, 4)},
        {"alignment": torch.tensor([0.6, 0.3, 0.1])},
        {"alignment": "running"},
        {"learning_rate_at": cosine_learning_rate(0.1, 6, level=1)},
        {"momentum": 0.5},
        {"strong": noise(0.1)},
    ],
)
def test_every_option_changes_the_outcome(pool, changes):
    one, two = model(), model()
    train(one, pool)
    train(two, pool, **changes)
    assert not torch.allclose(weights(one), weights(two), rtol=1e-6)


def test_the_window_and_the_average_change_the_outcome(pool):
    base = {"alignment": torch.tensor([0.6, 0.3, 0.1]), "rule": fixmatch(0.6)}
    one, two = model(), model()
    _, slow = train(one, pool, **base)
    train(two, pool, alignment_window=128, **base)
    assert not torch.allclose(weights(one), weights(two), rtol=1e-6)
    _, quick = train(model(), pool, ema_decay=0.0, **base)
    assert not torch.allclose(weights(slow), weights(quick))
    assert torch.equal(weights(quick), weights(one))


class Watch(TorchDispatchMode):
    """Counts operations that make the host wait for a device, and notes the largest tensor made."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "_unique2")

    def __init__(self):
        super().__init__()
        self.waits, self.largest = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.WAITING:
            self.waits.append(name)
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.largest = max(self.largest, result.numel())
        return result


def test_a_step_waits_for_nothing(pool, monkeypatch):
    from lt_lib.training import semi

    inside, real = [], semi._losses

    def watched(*arguments, **options):
        with Watch() as mode:
            terms = real(*arguments, **options)
        inside.extend(mode.waits)
        return terms

    monkeypatch.setattr(semi, "_losses", watched)
    train(model(), pool, alignment=torch.tensor([0.6, 0.3, 0.1]))
    assert inside == []


def test_memory_does_not_grow_with_the_labelled_and_unlabelled_sets():
    """A later generation has a longer index list, and still no tensor larger than a batch is made."""
    inputs = torch.randn(4000, 4, dtype=torch.float64, generator=seed(1))
    largest = []
    for labelled in (8, 3000):
        positions = torch.arange(labelled)
        data = Stream(positions, positions % CLASSES, torch.arange(4000), seed())
        with Watch() as mode:
            train(model(), inputs, data)
        largest.append(mode.largest)
    assert largest[0] == largest[1]
    assert largest[0] < inputs.numel() / 10


def test_a_loss_that_is_not_finite_is_named(tmp_path, pool):
    broken = pool.clone()
    broken[3] = float("inf")
    with pytest.raises(NonFiniteLossError, match="first at epoch 0, step") as caught:
        train(model(), broken, checkpoint=tmp_path / "run.pt")
    assert set(caught.value.indices) <= set(range(7))
    assert not (tmp_path / "run.pt").exists()
    with pytest.raises(NonFiniteLossError):
        fit_semi_stacked(StackedModel([model(), model()]), broken, [stream(20), stream(0)], **settings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "`epochs` must be an integer of at least 1, got 0"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, got 0"),
        ({"unlabelled_ratio": 0}, "`unlabelled_ratio` must be an integer of at least 1, got 0"),
        ({"evaluate_every": 0}, "`evaluate_every` must be an integer of at least 1, got 0"),
        ({"num_classes": 1}, "`num_classes` must be an integer of at least 2, got 1"),
        ({"momentum": 0.0}, r"`momentum` must be a number above 0, got 0"),
        ({"momentum": -0.5}, r"`momentum` must be a number in \[0, 1\), got -0.5"),
        ({"ema_decay": 2.0}, r"`decay` must be a finite number in \[0.0, 1.0\], got 2.0"),
    ],
)
def test_wrong_numbers_are_refused(pool, changes, message):
    with pytest.raises(ValueError, match=message):
        train(model(), pool, **changes)
    with pytest.raises(ValueError, match=message):
        fit_semi_stacked(StackedModel([model()]), pool, [stream()], **settings(**changes))


def test_wrong_sets_are_refused(pool):
    empty = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="`unlabelled` must hold at least one index, got an empty pool"):
        train(model(), pool, Stream(torch.arange(3), torch.arange(3), empty, seed()))
    train(model(), pool, Stream(torch.arange(3), torch.arange(3), empty, seed()), rule=None)
    with pytest.raises(ValueError, match="`labelled` and `labels` must be equally long, not empty, got 0 and 0"):
        train(model(), pool, Stream(empty, empty, torch.arange(3), seed()))
    stack = StackedModel([model(), model()])
    with pytest.raises(ValueError, match="`streams` must have one entry per model, got 1 for 2 models"):
        fit_semi_stacked(stack, pool, [stream()], **settings())
    with pytest.raises(ValueError, match=r"`alignment` must have one entry per stream \(2\), got 1"):
        fit_semi_stacked(stack, pool, [stream(), stream(1)], alignment=[None], **settings())


def test_the_teacher_of_mean_teacher_is_the_average(pool, monkeypatch):
    calls = []
    real = WeightAverage.__init__

    def watched(self, net, decay=0.999):
        real(self, net, decay)
        self.model.register_forward_hook(lambda *_: calls.append(1))

    monkeypatch.setattr(WeightAverage, "__init__", watched)
    train(model(), pool, rule=mean_teacher())
    assert len(calls) == 6
    calls.clear()
    train(model(), pool)
    assert calls == []
