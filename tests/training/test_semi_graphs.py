import pytest
import torch
from tape import Recorder

from lt_lib.data import strong_augment
from lt_lib.models import WideResNet, seeded
from lt_lib.models.wide_resnet import decay_without_norm
from lt_lib.training import Stream, cosine_learning_rate, fit_semi, fixmatch, mean_teacher, pseudo_label, ramp_up

CLASSES, EPOCHS, STEPS = 3, 3, 5
TARGET = torch.tensor([0.6, 0.3, 0.1])
RULES = {"fixmatch": fixmatch(0.4), "pseudo-label": pseudo_label(0.4), "mean teacher": mean_teacher(), "none": None}


def seed(number=0):
    return torch.Generator().manual_seed(number)


@pytest.fixture
def pool():
    pixels = torch.randint(256, (40, 8, 8, 3), dtype=torch.uint8, generator=seed())
    return pixels.permute(0, 3, 1, 2)


def net(number=0):
    return seeded(lambda: WideResNet(10, 1, CLASSES), number).to(memory_format=torch.channels_last)


def train(model, pool, execution, number=0, **options):
    """FixMatch with everything that changes from step to step: rate, weight, alignment, views, average."""
    positions = torch.arange(10)
    settings = {
        "rule": RULES["fixmatch"],
        "weak": strong_augment.weak_view(),
        "strong": strong_augment.strong_view(),
        "learning_rate_at": cosine_learning_rate(0.05, EPOCHS * STEPS, level=7),
        "unlabelled_weight_at": ramp_up(2.0, EPOCHS * STEPS),
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "num_classes": CLASSES,
        "batch_size": 4,
        "unlabelled_ratio": 3,
        "alignment": TARGET,
        "alignment_window": 4,
        "ema_decay": 0.8,
        "parameters": decay_without_norm(model, 1e-3),
        "evaluation": {"test": (strong_augment.to_unit_range(pool), torch.arange(40) % CLASSES)},
        "execution": execution,
    }
    stream = Stream(positions, positions % CLASSES, torch.arange(5, 40), seed(number))
    return (*fit_semi(model, pool, stream, **(settings | options)), stream.rng)


def assert_same(one, two):
    """(model, history, averaged model, generator) of two runs agree up to rounding."""
    for position in (0, 2):
        for name, value in one[position].state_dict().items():
            torch.testing.assert_close(two[position].state_dict()[name], value, rtol=2e-5, atol=2e-5, msg=name)
    assert torch.equal(one[3].get_state(), two[3].get_state())
    for name in ("labelled_loss", "unlabelled_loss", "mask_rate", "learning_rate"):
        assert getattr(two[1], name) == pytest.approx(getattr(one[1], name), rel=2e-5), name
    torch.testing.assert_close(torch.tensor(two[1].model_mean), torch.tensor(one[1].model_mean), rtol=2e-5, atol=1e-6)
    assert (two[1].accuracy, two[1].evaluated, two[1].starved) == (one[1].accuracy, one[1].evaluated, one[1].starved)


@pytest.mark.parametrize("name", RULES)
def test_recorded_steps_equal_plain_steps(pool, monkeypatch, name):
    """On a strict tape: nothing in a step, its views included, waits for the device or sends it numbers."""
    plain, fast = net(), net()
    expected = train(plain, pool, "plain", rule=RULES[name])
    with Recorder().installed(monkeypatch) as recorder:
        found = train(fast, pool, "graph", rule=RULES[name])
    assert_same((plain, *expected), (fast, *found))
    assert (recorder.recorded, recorder.replays) == (1, EPOCHS * STEPS - 3)
    if name != "none":
        assert 0 < expected[0].mask_rate[-1] <= 1


@pytest.mark.parametrize("alignment", [None, "running"])
def test_recorded_steps_align_as_plain_ones_do(pool, monkeypatch, alignment):
    plain, fast = net(), net()
    expected = train(plain, pool, "plain", alignment=alignment)
    with Recorder().installed(monkeypatch):
        assert_same((plain, *expected), (fast, *train(fast, pool, "graph", alignment=alignment)))


@pytest.mark.parametrize(("before", "after"), [("plain", "graph"), ("graph", "plain"), ("graph", "graph")])
def test_a_run_goes_on_from_a_checkpoint_in_either_way(pool, tmp_path, monkeypatch, before, after):
    whole, resumed = net(), net(5)
    expected = train(whole, pool, "plain")
    with Recorder().installed(monkeypatch):
        train(net(), pool, before, checkpoint=tmp_path / "run.pt", stop_after=1)
        found = train(resumed, pool, after, number=7, checkpoint=tmp_path / "run.pt")
    assert_same((whole, *expected), (resumed, *found))


def test_a_compiled_network_learns_as_the_plain_one(pool, monkeypatch):
    compiled = []

    def compile_(model, **options):
        compiled.append(options)
        return torch.nn.Sequential(model)

    monkeypatch.setattr(torch, "compile", compile_)
    plain, fast = net(), net()
    assert_same((plain, *train(plain, pool, "plain")), (fast, *train(fast, pool, "compile")))
    assert compiled == [{"dynamic": False}]
