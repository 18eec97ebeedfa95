import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lt_lib.data import Split
from lt_lib.data.pools import PoolSpec, drawn_pool
from lt_lib.models import MLP, StackedModel, seeded
from lt_lib.training import fit, predict
from lt_lib.training.self_training import Task, hard_labels, mixed_order, self_train, self_train_stacked
from lt_lib.training.unequal import TrainingSet, fit_sets, gaussian_noise, whole_passes

CLASSES, DIM = 3, 4
NOISE = 0.3


def generator(seed):
    return torch.Generator().manual_seed(seed)


def blobs(counts, seed):
    """Far apart along the axes, so that a short training separates them."""
    rng = generator(seed)
    targets = torch.repeat_interleave(torch.arange(CLASSES), torch.as_tensor(counts))
    centres = 3 * torch.eye(DIM, dtype=torch.float64)[:CLASSES]
    return centres[targets] + torch.randn(len(targets), DIM, dtype=torch.float64, generator=rng), targets


def mean_loss(logits, targets):
    flat = F.cross_entropy(logits.reshape(-1, CLASSES), targets.reshape(-1), reduction="none")
    return flat.reshape(targets.shape).mean(dim=-1)


def network(seed):
    return seeded(lambda: MLP(DIM, CLASSES, hidden=8), seed).double()


def trainer(seed, *, epochs=4, noise=0.0):
    """The learner as an argument: fresh weights each time."""

    def train(inputs, targets, class_counts, order):
        model = network(seed)
        fit(
            model,
            inputs,
            targets,
            loss_at=lambda _epoch: mean_loss,
            learning_rate_at=lambda _epoch: 0.1,
            epochs=epochs,
            rng=generator(seed),
            batch_size=16,
            order_at=order,
            augment=gaussian_noise(noise) if noise else None,
        )
        return model

    return train


def stack_trainer(seeds, *, epoch_size, epochs=4, noise=0.0):
    def train(sets):
        stack = StackedModel([network(seed) for seed in seeds])
        fit_sets(
            stack,
            sets,
            epoch_size=epoch_size,
            learning_rate_at=lambda _epoch: 0.1,
            epochs=epochs,
            parameters=stack.parameter_groups(0.0),
            batch_size=16,
            noise=noise,
        )
        return stack

    return train


def assert_same_weights(first, second):
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_members_with_sets_of_their_own_learn_what_they_learn_alone(noise):
    sets = [blobs(counts, seed) for seed, counts in enumerate(([20, 9, 3], [40, 40, 40], [5, 2, 1]))]
    members = [TrainingSet(x, y, lambda _epoch: mean_loss, generator(seed)) for seed, (x, y) in enumerate(sets)]
    stack = stack_trainer([0, 1, 2], epoch_size=48, noise=noise)(members)
    for seed, (x, y) in enumerate(sets):
        alone = trainer(seed, noise=noise)(x, y, None, whole_passes(len(y), 48))
        assert_same_weights(stack.member(seed), alone.state_dict())


def test_noise_is_fresh_and_of_the_right_size():
    add = gaussian_noise(0.5)
    batch, rng = torch.zeros(200, 50, dtype=torch.float64), generator(0)
    first, second = add(batch, rng), add(batch, rng)
    assert float(first.std()) == pytest.approx(0.5, rel=0.03)
    assert abs(float((first * second).mean())) < 0.01


def test_whole_passes_visit_every_sample_equally_often():
    order = whole_passes(7, 24)
    drawn = order(0, generator(0))
    assert len(drawn) == 24
    assert set(torch.bincount(drawn, minlength=7).tolist()) <= {3, 4}
    assert sorted(drawn[:7].tolist()) == list(range(7))
    assert drawn.tolist() != order(0, generator(1)).tolist()


@pytest.mark.parametrize("omega", [0.0, 0.25, 1.0, 3.0])
def test_a_pool_sample_counts_omega_times_a_labelled_one(omega):
    labelled, unlabelled = 12, 60
    order, rng = mixed_order(labelled, unlabelled, omega, 400), generator(0)
    counts = sum(torch.bincount(order(epoch, rng), minlength=72) for epoch in range(40)).double()
    share = omega * unlabelled / (labelled + omega * unlabelled)
    assert counts[labelled:].sum() / counts.sum() == pytest.approx(share, abs=0.5 / 400)
    if omega > 0:
        assert float(counts[labelled:].mean() / counts[:labelled].mean()) == pytest.approx(omega, rel=0.03)


def test_mean_batch_loss_is_the_objective():
    """Losses drawn by the order against the formula with omega, sample by sample."""
    labelled, unlabelled, omega = 6, 30, 0.5
    losses = torch.rand(36, dtype=torch.float64, generator=generator(3))
    order, rng = mixed_order(labelled, unlabelled, omega, 21), generator(0)
    drawn = torch.stack([losses[order(epoch, rng)].mean() for epoch in range(4000)])
    formula = (losses[:labelled].sum() + omega * losses[labelled:].sum()) / (labelled + omega * unlabelled)
    assert abs(float(drawn.mean() - formula)) < 4 * float(drawn.std()) / 4000**0.5


def test_omega_zero_is_plain_training_draw_for_draw():
    labelled, pool = blobs([20, 9, 3], 0), blobs([30, 30, 30], 1)[0]
    done = self_train(
        labelled, pool, num_classes=CLASSES, train=trainer(5), omega=0.0, counts_from="labelled", epoch_size=32
    )
    assert_same_weights(done.base.state_dict(), done.model.state_dict())


@pytest.mark.parametrize("omega", [0.0, 0.5, 2.0])
def test_omega_does_not_scale_the_class_counts(omega):
    labelled, pool = blobs([20, 9, 3], 0), blobs([30, 30, 30], 1)[0]
    done, plain = (
        self_train(labelled, pool, num_classes=CLASSES, train=trainer(5), omega=omega, counts_from=name, epoch_size=32)
        for name in ("joined", "labelled")
    )
    assert plain.class_counts.tolist() == [20, 9, 3]
    assert (done.class_counts - plain.class_counts).tolist() == torch.bincount(done.pseudo_labels, minlength=3).tolist()


def test_omega_one_joins_the_sets():
    labelled, unlabelled = 10, 30
    order = mixed_order(labelled, unlabelled, 1.0)(0, generator(0))
    assert sorted(order.tolist()) == list(range(40))


def test_steps_of_the_algorithm():
    """Base on the labels, argmax on the pool without a threshold, then both from fresh weights."""
    labelled, pool = blobs([20, 9, 3], 0), blobs([30, 20, 10], 1)[0]
    seen = []

    def train(inputs, targets, class_counts, order):
        seen.append((inputs, targets, class_counts, network(7).state_dict()))
        return trainer(7)(inputs, targets, class_counts, order)

    done = self_train(labelled, pool, num_classes=CLASSES, train=train)
    expected = [int(np.argmax(row)) for row in predict(done.base, pool).numpy()]
    assert done.pseudo_labels.tolist() == expected
    assert torch.equal(seen[0][0], labelled[0])
    assert torch.equal(seen[1][0], torch.cat([labelled[0], pool]))
    assert seen[1][1].tolist() == labelled[1].tolist() + expected
    assert seen[0][2].tolist() == [20, 9, 3]
    assert seen[1][2].tolist() == (np.array([20, 9, 3]) + np.bincount(expected, minlength=3)).tolist()


def test_unsure_samples_are_labelled_too():
    assert hard_labels(torch.tensor([[0.34, 0.33, 0.33], [0.0, 0.0, 0.0]])).tolist() == [0, 0]


def test_counts_can_stay_those_of_the_labelled_set():
    labelled, pool = blobs([20, 9, 3], 0), blobs([30, 20, 10], 1)[0]
    done = self_train(labelled, pool, num_classes=CLASSES, train=trainer(0), counts_from="labelled")
    assert done.class_counts.tolist() == [20, 9, 3]


def test_a_given_base_model_is_used():
    labelled, pool = blobs([20, 9, 3], 0), blobs([30, 20, 10], 1)[0]
    base = network(99)
    done = self_train(labelled, pool, num_classes=CLASSES, train=trainer(0), base=base)
    assert done.base is base
    assert done.pseudo_labels.tolist() == predict(base, pool).argmax(dim=1).tolist()


@pytest.mark.parametrize("counts_from", ["labelled", "joined"])
def test_stacked_students_are_those_trained_alone(counts_from):
    labelled = [blobs([20, 9, 3], 0), blobs([12, 6, 6], 1)]
    pools = [blobs([30, 20, 10], 2)[0], blobs([8, 8, 8], 3)[0], blobs([50, 2, 2], 4)[0]]
    bases = [TrainingSet(x, y, lambda _epoch: mean_loss, generator(seed)) for seed, (x, y) in enumerate(labelled)]
    teachers = stack_trainer([0, 1], epoch_size=40)(bases)
    plan = [(0, 0, 1.0), (0, 1, 0.5), (1, 2, 2.0)]  # teacher, pool, omega
    seen = []

    def losses_for(class_counts):
        seen.extend(class_counts)
        return [lambda _epoch: mean_loss] * len(class_counts)

    students = self_train_stacked(
        teachers,
        network(0),
        [Task(labelled[t], pools[p], t, generator(10 + k), omega) for k, (t, p, omega) in enumerate(plan)],
        num_classes=CLASSES,
        fit=stack_trainer([10, 11, 12], epoch_size=40),
        losses_for=losses_for,
        epoch_size=40,
        counts_from=counts_from,
    )
    for k, (t, p, omega) in enumerate(plan):
        base = network(0)
        base.load_state_dict(teachers.member(t))
        alone = self_train(
            labelled[t],
            pools[p],
            num_classes=CLASSES,
            train=trainer(10 + k),
            omega=omega,
            counts_from=counts_from,
            epoch_size=40,
            base=base,
        )
        assert_same_weights(students.stack.member(k), alone.model.state_dict())
        assert torch.equal(students.pseudo_labels[k], alone.pseudo_labels)
        assert students.class_counts[k].tolist() == alone.class_counts.tolist() == seen[k].tolist()


def test_stacked_teachers_label_without_dropout():
    class Dropping(MLP):
        def forward(self, inputs):
            return F.dropout(super().forward(inputs), 0.9, self.training)

    labelled, pool = blobs([20, 9, 3], 0), blobs([30, 20, 10], 2)[0]
    teachers = stack_trainer([0], epoch_size=40)([TrainingSet(*labelled, lambda _epoch: mean_loss, generator(0))])
    template = Dropping(DIM, CLASSES, hidden=8).double()
    students = self_train_stacked(
        teachers,
        template,
        [Task(labelled, pool, 0, generator(1), 1.0)],
        num_classes=CLASSES,
        fit=stack_trainer([1], epoch_size=40),
        losses_for=lambda counts: [lambda _epoch: mean_loss] * len(counts),
        epoch_size=40,
    )
    base = network(0)
    base.load_state_dict(teachers.member(0))
    assert torch.equal(students.pseudo_labels[0], hard_labels(predict(base, pool)))
    assert template.training


def test_true_classes_of_the_pool_change_nothing_but_the_diagnosis():
    labelled = blobs([20, 9, 3], 0)
    inputs, targets = blobs([40, 40, 40], 1)
    split = Split(inputs.numpy(), targets.numpy())
    pool = drawn_pool(split, CLASSES, 30, PoolSpec(2.0, 2.0), seed=0, source="rest")
    shuffled = type(pool)(pool.inputs, np.roll(pool.targets, 11), CLASSES, pool.source)
    done = [
        self_train(labelled, torch.from_numpy(each.inputs), num_classes=CLASSES, train=trainer(0))
        for each in (pool, shuffled)
    ]
    assert torch.equal(done[0].pseudo_labels, done[1].pseudo_labels)
    for name, value in done[0].model.state_dict().items():
        assert torch.equal(value, done[1].model.state_dict()[name])
    wrong = [np.mean(each.targets != done[0].pseudo_labels.numpy()) for each in (pool, shuffled)]
    assert wrong[0] != wrong[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": torch.zeros(0, DIM, dtype=torch.float64)}, "`pool` must hold at least one sample"),
        ({"omega": -1.0}, "`omega` must be"),
        ({"counts_from": "pool"}, "`counts_from` must be one of"),
        ({"epoch_size": 0}, "`epoch_size` must be"),
        ({"labelled": blobs([4, 4, 0], 0)}, "sample of every class, got none of class 2"),
        ({"num_classes": 2}, r"`labelled` must have classes 0 ... 1, got 2"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    arguments = {
        "labelled": blobs([4, 4, 4], 0), "pool": blobs([2, 2, 2], 1)[0], "num_classes": CLASSES, "train": trainer(0),
    } | changes  # fmt: skip
    with pytest.raises(ValueError, match=message):
        self_train(arguments.pop("labelled"), arguments.pop("pool"), **arguments)


def test_stacks_refuse_what_does_not_fit():
    teachers = StackedModel([network(0)])
    task = Task(blobs([4, 4, 4], 0), blobs([2, 2, 2], 1)[0], 1, generator(0))
    common = {"num_classes": CLASSES, "fit": None, "losses_for": None, "epoch_size": 8}
    with pytest.raises(ValueError, match="`tasks` must hold at least one task"):
        self_train_stacked(teachers, network(0), [], **common)
    with pytest.raises(ValueError, match="`teacher` must be"):
        self_train_stacked(teachers, network(0), [task], **common)
    with pytest.raises(ValueError, match="`sets` must hold at least one training set"):
        stack_trainer([0], epoch_size=8)([])
    with pytest.raises(ValueError, match="`noise` must be"):
        stack_trainer([0], epoch_size=8, noise=-1.0)([None])
