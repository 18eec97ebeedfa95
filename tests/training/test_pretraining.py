"""Pretext tasks against naive constructions, the loops against each other, and the transfer."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lt_lib.models import MLP, CifarResNet, SmallCNN, StackedModel, seeded
from lt_lib.training import (
    CheckpointError,
    NonFiniteLossError,
    PretextMember,
    SiameseNet,
    autoencoder_task,
    equal_length,
    jigsaw_task,
    pretext_score,
    pretrain,
    pretrain_stacked,
    rotation_task,
    simsiam_task,
    start_decoder,
    step_learning_rate,
    transfer,
)
from lt_lib.training.pretraining import balanced_answers, crop_and_jitter, rotate, shift_and_noise, shuffle_quarters
from lt_lib.training.unequal import whole_passes


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(number=40, channels=1, size=8, seed=0):
    """Bright at the top, dark below, with stripes of its own for every image: there is an up and a down."""
    base = torch.linspace(2, -2, size).double()[:, None].expand(size, size)
    stripes = torch.randn(number, channels, 1, size // 2, generator=rng(seed)).double().repeat_interleave(2, dim=3)
    return base + stripes + 0.1 * torch.randn(number, channels, size, size, generator=rng(seed)).double()


TASKS = {
    "rotation": rotation_task,
    "jigsaw": jigsaw_task,
    "autoencoder": lambda: autoencoder_task(64, 0.3),
    "simsiam": lambda: simsiam_task(shift_and_noise, 8),
}


def network(name, seed=0, make=MLP):
    task = TASKS[name]()
    body = 64 if make is MLP else 1
    if name == "simsiam":
        net = seeded(lambda: SiameseNet(make(body, 3), 64 if make is MLP else 128, 8), seed)
    else:
        net = seeded(lambda: make(body, task.outputs), seed)
        start_decoder(task, net)
    return task, net.double()


def test_rotation_turns_every_image_by_itself():
    batch = images(7, channels=2)
    turns = torch.tensor([0, 1, 2, 3, 3, 0, 1])
    for image, turn, turned in zip(batch, turns, rotate(batch, turns), strict=True):
        assert torch.equal(turned, torch.rot90(image, int(turn), (1, 2)))
    with pytest.raises(ValueError, match="`images` must have shape"):
        rotate(torch.zeros(2, 1, 4, 6), torch.tensor([0, 1]))


@pytest.mark.parametrize(("batch", "choices"), [(128, 4), (10, 4), (3, 4), (48, 24)])
def test_answers_are_balanced_in_the_batch_and_in_random_places(batch, choices):
    drawn = [balanced_answers(batch, choices, rng(seed)) for seed in range(30)]
    for answers in drawn:
        counts = answers.bincount(minlength=choices)
        assert len(answers) == batch
        assert int(counts.max() - counts.min()) <= 1
    places = torch.stack(drawn)
    assert (places != places[0]).any(dim=0).all()
    # The surplus of an uneven batch is no favourite of one answer.
    assert (places.flatten().bincount(minlength=choices) > 0).all()


def test_quarters_are_where_the_order_says():
    batch = torch.arange(2 * 1 * 4 * 6).reshape(2, 1, 4, 6)
    orders = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]])
    moved = shuffle_quarters(batch, orders)
    places = [
        (slice(0, 2), slice(0, 3)),
        (slice(0, 2), slice(3, 6)),
        (slice(2, 4), slice(0, 3)),
        (slice(2, 4), slice(3, 6)),
    ]
    for image in range(2):
        for place, source in enumerate(orders[image].tolist()):
            assert torch.equal(moved[(image, 0, *places[place])], batch[(image, 0, *places[source])])
    with pytest.raises(ValueError, match="even sides"):
        shuffle_quarters(torch.zeros(1, 1, 3, 4), orders[:1])


def test_jigsaw_answers_name_the_order():
    batch = images(24)
    inputs, answers = jigsaw_task().views(batch, rng())
    assert sorted(answers.tolist()) == list(range(24))
    kept = answers == 0  # the first permutation is the identity
    assert torch.equal(inputs[kept], batch[kept])
    assert not torch.equal(inputs[~kept], batch[~kept])


def test_autoencoder_compares_with_the_clean_image():
    task, batch = autoencoder_task(64, 0.5), images(200)
    inputs, answers = task.views(batch, rng())
    assert torch.equal(answers, batch.flatten(1))
    assert float((inputs - batch).std()) == pytest.approx(0.5, rel=0.02)
    assert float(task.loss(answers + 0.1, answers)) == pytest.approx(0.01)
    mean = answers.mean(dim=0).expand_as(answers)
    assert float(task.score(mean, answers)) == pytest.approx(0.0, abs=1e-12)
    assert float(task.score(answers, answers)) == 1.0
    assert autoencoder_task(64, 0.0).views(batch, rng())[0].equal(batch)


def test_simsiam_loss_by_hand_and_without_gradient_on_the_other_view():
    task = simsiam_task(shift_and_noise, 2)
    outputs = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    # z1 = (1, 0), q1 = (0, 1), z2 = (1, 1), q2 = (1, 0): cos(q1, z2) = 1/sqrt 2, cos(q2, z1) = 1.
    loss = task.loss(outputs, torch.zeros(2, dtype=torch.int64))
    assert float(loss.detach()) == pytest.approx(-(1 / math.sqrt(2) + 1) / 2)
    loss.backward()
    assert torch.equal(outputs.grad[:, :2], torch.zeros(2, 2).double())
    assert outputs.grad[0, 2] != 0


def test_simsiam_score_is_zero_after_collapse_and_counts_pairs_as_a_loop_does():
    task, pairs = simsiam_task(shift_and_noise, 3), 5
    outputs = torch.randn(2 * pairs, 6, generator=rng()).double()
    z2, q1 = outputs[pairs:, :3], outputs[:pairs, 3:]
    cosine = F.cosine_similarity(q1[:, None], z2[None], dim=-1)
    same = cosine.diagonal().mean()
    other = cosine[~torch.eye(pairs, dtype=torch.bool)].mean()
    assert float(task.score(outputs, torch.zeros(10))) == pytest.approx(float(same - other))
    collapsed = torch.ones(2 * pairs, 6).double()
    assert float(task.score(collapsed, torch.zeros(10))) == pytest.approx(0.0, abs=1e-12)


def test_shifted_views_move_whole_images_and_repeat_the_border():
    batch = images(50)
    moved = shift_and_noise(batch, rng(), pixels=1, noise=0.0)
    padded = F.pad(batch, (1, 1, 1, 1), mode="replicate")
    shifts = [padded[:, :, r : r + 8, c : c + 8] for r in range(3) for c in range(3)]
    hits = torch.stack([(moved == one).all(dim=(1, 2, 3)) for one in shifts])
    assert hits.any(dim=0).all()
    assert hits.any(dim=1).all()
    assert float((shift_and_noise(batch, rng(), pixels=0, noise=0.2) - batch).std()) == pytest.approx(0.2, rel=0.05)


def test_photo_views_stay_in_range_and_without_change_give_the_image_or_its_mirror():
    batch = torch.rand(64, 3, 8, 8, generator=rng()).double()
    view = crop_and_jitter(batch, rng())
    assert view.shape == batch.shape
    assert view.dtype == batch.dtype
    assert 0 <= float(view.min()) <= float(view.max()) <= 1
    grey = (view[:, 0] == view[:, 1]).all(dim=(1, 2)) & (view[:, 1] == view[:, 2]).all(dim=(1, 2))
    assert 0 < int(grey.sum()) < 32
    still = crop_and_jitter(batch, rng(), area=(1.0, 1.0), strength=0.0, grey=0.0)
    plain, mirrored = ((still - other).abs().amax(dim=(1, 2, 3)) < 1e-6 for other in (batch, batch.flip(3)))
    assert (plain | mirrored).all()
    assert 10 < int(plain.sum()) < 54


def test_equal_length():
    assert equal_length(0, 5) == 5
    with pytest.raises(ValueError, match="`epochs` must be"):
        equal_length(5, 0)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_learned(name):
    task, net = network(name)
    data = images(64)
    before = float(pretext_score(net, data, task, rng(9)))
    history = pretrain(
        net, data, task, learning_rate_at=step_learning_rate(20, 0.05), epochs=20, rng=rng(1), batch_size=32
    )
    assert history.train_loss[-1] < history.train_loss[0]
    assert float(pretext_score(net, data, task, rng(9))) > before + 0.1
    assert len(history.accuracy["pretext"]) == history.epochs == 20
    assert net.training


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("make", [MLP, SmallCNN])
def test_a_member_of_a_stack_is_trained_as_it_would_be_alone(name, make):
    data, rows = images(30), [torch.arange(20), torch.arange(10, 30)]
    task = TASKS[name]()
    stack = StackedModel([network(name, seed, make)[1] for seed in range(2)])
    members = [PretextMember(indices, rng(seed)) for seed, indices in enumerate(rows)]
    common = {"learning_rate_at": step_learning_rate(3, 0.05), "epochs": 3, "batch_size": 8}
    histories = pretrain_stacked(stack, data, members, task, parameters=stack.parameter_groups(1e-3), **common)
    for seed, indices in enumerate(rows):
        alone = network(name, seed, make)[1]
        groups = [{"params": list(alone.parameters()), "weight_decay": 1e-3}]
        history = pretrain(alone, data[indices], task, rng=rng(seed), parameters=groups, **common)
        for key, value in stack.member(seed).items():
            torch.testing.assert_close(value, alone.state_dict()[key], rtol=1e-8, atol=1e-10)
        assert history.train_loss == pytest.approx(histories[seed].train_loss, rel=1e-8)
        score = pretext_score(stack, data, task, rng(5), members=2)[seed]
        assert float(score) == pytest.approx(float(pretext_score(alone, data, task, rng(5))), abs=1e-9)


def test_members_with_orders_of_their_own_may_have_sets_of_different_size():
    data, task = images(30), rotation_task()
    rows = [torch.arange(20), torch.arange(10, 15)]
    common = {"learning_rate_at": lambda _: 0.05, "epochs": 2, "batch_size": 8}

    def train(members, seeds):
        stack = StackedModel([network("rotation", seed)[1] for seed in seeds])
        pretrain_stacked(stack, data, members, task, parameters=stack.parameter_groups(0.0), **common)
        return [stack.member(place) for place in range(len(seeds))]

    def own(seed):
        return PretextMember(rows[seed], rng(seed), whole_passes(len(rows[seed]), 20))

    both = train([own(0), own(1)], [0, 1])
    # Passes over 20 images in epochs of 20 are the usual order; a small set is passed over again and again.
    usual = train([PretextMember(rows[0], rng(0))], [0])[0]
    repeated = train([own(1)], [1])[0]
    for key, value in usual.items():
        torch.testing.assert_close(both[0][key], value)
        torch.testing.assert_close(both[1][key], repeated[key])
    uneven = [own(0), PretextMember(rows[1], rng(1))]
    with pytest.raises(ValueError, match=r"equally many images per epoch, got \[5, 20\]"):
        train(uneven, [0, 1])


@pytest.mark.parametrize("name", ["autoencoder", "simsiam"])
def test_a_last_batch_of_one_image_does_not_spoil_the_score_of_its_epoch(name):
    task, net = network(name)
    history = pretrain(net, images(9), task, learning_rate_at=lambda _: 0.01, epochs=2, rng=rng(), batch_size=8)
    assert all(math.isfinite(score) for score in history.accuracy["pretext"])
    inputs, answers = task.views(images(1), rng())
    assert task.score(net(inputs).detach(), answers).isnan()


def test_resume_ends_in_the_same_bits(tmp_path):
    def go(**options):
        task, net = network("rotation", make=SmallCNN)
        options |= {"learning_rate_at": lambda _: 0.05, "epochs": 4, "batch_size": 16}
        history = pretrain(net, images(), task, rng=rng(3), **options)
        return net.state_dict(), history

    whole, expected = go()
    file = tmp_path / "state.pt"
    assert go(checkpoint=file, identity="a", stop_after=2)[1].epochs == 2
    resumed, history = go(checkpoint=file, identity="a")
    assert history.train_loss == expected.train_loss
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(CheckpointError, match="another configuration"):
        go(checkpoint=file, identity="b")


def test_bad_input_is_refused():
    task, net = network("rotation")
    options = {"learning_rate_at": lambda _: 0.1, "rng": rng()}
    with pytest.raises(ValueError, match="`images` must hold"):
        pretrain(net, images()[:0], task, epochs=1, **options)
    with pytest.raises(ValueError, match="`epochs` must be an integer of at least 1, got 0"):
        pretrain(net, images(), task, epochs=0, **options)
    with pytest.raises(ValueError, match=r"`momentum` must be a number in \[0, 1\), got 1.5"):
        pretrain(net, images(4), task, learning_rate_at=lambda _e: 0.1, epochs=1, rng=rng(), momentum=1.5)
    with pytest.raises(NonFiniteLossError, match="epoch 0"):
        pretrain(net, images() * float("inf"), task, epochs=1, **options)
    stack = StackedModel([network("rotation", seed)[1] for seed in range(2)])
    more = {"learning_rate_at": lambda _: 0.1, "epochs": 1, "parameters": stack.parameter_groups(0.0)}
    with pytest.raises(ValueError, match="one entry per model"):
        pretrain_stacked(stack, images(), [PretextMember(torch.arange(5), rng())], task, **more)
    uneven = [PretextMember(torch.arange(number), rng()) for number in (5, 6)]
    with pytest.raises(ValueError, match="equally many images"):
        pretrain_stacked(stack, images(), uneven, task, **more)
    with pytest.raises(ValueError, match="`noise` must be"):
        autoencoder_task(64, -1.0)
    with pytest.raises(ValueError, match="`dim` must be"):
        simsiam_task(shift_and_noise, 1)


def test_decoder_starts_at_zero_and_nothing_else_does():
    task, net = network("autoencoder")
    assert not net.head.weight.any()
    assert net.layer1.weight.any()
    assert network("rotation")[1].head.weight.any()
    assert task.outputs == 64


@pytest.mark.parametrize("num_classes", [4, 10])
def test_transfer_copies_weights_and_statistics_but_not_the_last_layer(num_classes):
    source, target = (seeded(lambda n=n: CifarResNet(8, n), n) for n in (4, num_classes))
    source(torch.randn(8, 3, 8, 8))  # moves the running statistics
    fresh = {name: value.clone() for name, value in target.state_dict().items()}
    done = transfer(source.state_dict(), target)
    assert done.fresh == ("head.weight", "head.bias")
    assert "bn.running_mean" in done.copied
    for name, value in target.state_dict().items():
        assert torch.equal(value, fresh[name] if name in done.fresh else source.state_dict()[name])
    assert set(done.copied) | set(done.fresh) == set(fresh)


def test_transfer_from_a_siamese_net_and_its_refusals():
    net = SiameseNet(MLP(64, 3), 64, 8)
    target = MLP(64, 10, head="cosine")
    done = transfer(net.state_dict(), target, prefix="encoder.")
    assert done.fresh == ("head.weight",)
    assert torch.equal(target.layer2.weight, net.encoder.layer2.weight)
    assert isinstance(net.encoder.head, nn.Identity)
    with pytest.raises(ValueError, match="`source` must hold 'layer1.weight'"):
        transfer(net.state_dict(), target)
    with pytest.raises(ValueError, match="got shape"):
        transfer(MLP(32, 4).state_dict(), target)
    with pytest.raises(ValueError, match="`head` must name the last layer"):
        transfer(target.state_dict(), target, head="fc")


def test_the_score_leaves_a_frozen_part_frozen():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4)).double().train()
    net[1].eval()
    pretext_score(net, images(4), rotation_task(), rng())
    assert [module.training for module in net.modules()] == [True, True, False, True]
