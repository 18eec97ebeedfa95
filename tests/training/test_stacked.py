from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lt_lib.metrics import balanced_accuracy
from lt_lib.models import MLP, SmallCNN, StackedModel, parameter_groups, seeded
from lt_lib.training import (
    Member,
    NonFiniteLossError,
    fit,
    fit_stacked,
    make_fabric,
    predict,
    predict_stacked,
    shuffled,
)
from lt_lib.training.stacked import balanced_accuracies

CLASSES = 3


@pytest.fixture
def pool():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(60, 4, dtype=torch.float64, generator=rng), torch.arange(60) % CLASSES


def mean_loss(weight):
    """Cross entropy with class weights, averaged over the last axis; for one model and for a stack."""

    def loss(logits, targets):
        flat = F.cross_entropy(logits.reshape(-1, CLASSES), targets.reshape(-1), weight=weight, reduction="none")
        return flat.reshape(targets.shape).mean(dim=-1)

    return loss


def drawn(epoch, rng):
    """Re-sampling with replacement from the second epoch on."""
    return torch.randint(20, (20,), generator=rng) if epoch else shuffled(20)(epoch, rng)


def members():
    plain = mean_loss(None)
    heavy = mean_loss(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
    settings = [
        (lambda _epoch: plain, None),
        (lambda _epoch: plain, drawn),
        (lambda epoch: heavy if epoch >= 2 else plain, None),
        (lambda _epoch: heavy, drawn),
    ]
    return [
        Member(
            indices=torch.arange(20) + 10 * position,
            loss_at=loss_at,
            rng=torch.Generator().manual_seed(position),
            order_at=order_at,
            validation=torch.arange(50 - position, 60 - position),
        )
        for position, (loss_at, order_at) in enumerate(settings)
    ]


def rate(epoch):
    return (0.1, 0.2, 0.05, 0.02)[epoch]


def test_a_stack_trains_every_member_as_it_would_be_trained_alone(pool):
    inputs, targets = pool
    models = [seeded(lambda: MLP(4, CLASSES, hidden=6), position).double() for position in range(4)]
    stack = StackedModel(models)
    test = inputs[:30], targets[:30]
    histories, last_logits = fit_stacked(
        stack,
        inputs,
        targets,
        members(),
        learning_rate_at=rate,
        epochs=4,
        parameters=stack.parameter_groups(0.01, decay_on="all_but_head_bias"),
        batch_size=8,
        momentum=0.8,
        test=test,
        evaluate_every=3,
    )
    torch.testing.assert_close(last_logits, predict_stacked(stack, test[0]))
    for position, (model, member, history) in enumerate(zip(models, members(), histories, strict=True)):
        alone = fit(
            model,
            inputs[member.indices],
            targets[member.indices],
            loss_at=member.loss_at,
            learning_rate_at=rate,
            epochs=4,
            rng=member.rng,
            batch_size=8,
            momentum=0.8,
            parameters=parameter_groups(model, 0.01, decay_on="all_but_head_bias"),
            order_at=member.order_at,
            evaluation={"test": test, "validation": (inputs[member.validation], targets[member.validation])},
            evaluate_every=3,
            fabric=make_fabric("cpu", "float64"),
        )
        for name, value in stack.member(position).items():
            torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-9, atol=1e-11)
        assert history.train_loss == pytest.approx(alone.train_loss, rel=1e-9)
        assert history.accuracy == {name: pytest.approx(values) for name, values in alone.accuracy.items()}
        assert (history.evaluated, history.learning_rate) == (alone.evaluated, alone.learning_rate)
        torch.testing.assert_close(predict_stacked(stack, inputs, batch_size=7)[position], predict(model, inputs))


def small_fit(stack, pool, who, **options):
    settings = {
        "learning_rate_at": rate,
        "epochs": 1,
        "parameters": stack.parameter_groups(0.0),
        "batch_size": 8,
    }
    return fit_stacked(stack, *pool, who, **(settings | options))


def stack_of(number):
    return StackedModel([seeded(lambda: MLP(4, CLASSES, hidden=6), seed).double() for seed in range(number)])


def test_members_and_models_must_correspond(pool):
    with pytest.raises(ValueError, match="`members` must have one entry per model, got 4 for 3 models"):
        small_fit(stack_of(3), pool, members())
    uneven = [
        Member(torch.arange(size), lambda _epoch: mean_loss(None), torch.Generator().manual_seed(0)) for size in (5, 6)
    ]
    with pytest.raises(ValueError, match=r"`members` must have equally many samples, not none, got \[5, 6\]"):
        small_fit(stack_of(2), pool, uneven)
    with pytest.raises(ValueError, match=r"`members` must have equally many samples, not none, got \[0\]"):
        small_fit(stack_of(1), pool, [replace(uneven[0], indices=torch.arange(0))])


def test_hold_outs_must_correspond(pool):
    first, second, *_ = members()
    with pytest.raises(ValueError, match="`members` must all have validation samples or none, got 1 of 2"):
        small_fit(stack_of(2), pool, [first, replace(second, validation=None)])
    with pytest.raises(ValueError, match=r"`members` must have equally many validation samples, got \[3, 10\]"):
        small_fit(stack_of(2), pool, [first, replace(second, validation=torch.arange(3))])


@pytest.mark.parametrize("name", ["epochs", "batch_size", "evaluate_every"])
@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_lengths_out_of_range_are_refused(pool, name, number, error):
    with pytest.raises(error, match=f"`{name}` must be an integer"):
        small_fit(stack_of(1), pool, members()[:1], **{name: number})


def test_a_member_whose_loss_is_not_finite_is_named_by_its_samples(pool):
    who = members()[:2]
    order = 40 + torch.randperm(20, generator=torch.Generator().manual_seed(0))
    broken = Member(
        torch.arange(40, 60),
        lambda _epoch: lambda z, y: z.sum((-1, -2)) / 0,
        torch.Generator().manual_seed(0),
        validation=who[0].validation,
    )
    with pytest.raises(NonFiniteLossError, match="first at epoch 0, step 0") as caught:
        small_fit(stack_of(3), pool, [*who, broken])
    assert caught.value.indices == order[:8].tolist()


def test_neighbours_with_one_loss_are_computed_in_one_call(pool):
    calls = []
    plain = mean_loss(None)

    def counted(logits, targets):
        calls.append(len(logits))
        return plain(logits, targets)

    who = [Member(torch.arange(20), lambda _e: counted, torch.Generator().manual_seed(seed)) for seed in range(3)]
    small_fit(stack_of(3), pool, who, batch_size=20)
    assert calls == [3]


def test_without_test_and_validation_only_the_losses_are_recorded(pool):
    who = [Member(torch.arange(20), lambda _e: mean_loss(None), torch.Generator().manual_seed(0))]
    (history,), logits = small_fit(stack_of(1), pool, who)
    assert logits is None
    assert history.accuracy == {}
    assert history.evaluated == [0]
    assert history.epochs == 1


def test_a_stack_of_convolutions_trains(pool):
    images = pool[0].reshape(60, 1, 2, 2).repeat(1, 1, 2, 2)
    stack = StackedModel([seeded(lambda: SmallCNN(1, CLASSES), seed).double() for seed in range(2)])
    who = [Member(torch.arange(60), lambda _e: mean_loss(None), torch.Generator().manual_seed(0)) for _ in range(2)]
    histories, _ = small_fit(stack, (images, pool[1]), who, epochs=4)
    assert histories[0].train_loss[-1] < histories[0].train_loss[0]


def test_the_accuracies_of_a_stack_are_those_of_the_metric():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 50, 4, generator=rng)
    targets = torch.randint(3, (3, 50), generator=rng)  # no sample of the last class
    expected = [balanced_accuracy(y, z.argmax(1), 4) for z, y in zip(logits, targets, strict=True)]
    assert balanced_accuracies(logits, targets).tolist() == pytest.approx(expected, rel=1e-14)
