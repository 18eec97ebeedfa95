import contextlib
import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tape import Recorder, Tape

from lt_lib.data import augment
from lt_lib.models import CifarResNet, parameter_groups, seeded
from lt_lib.recipes import METHODS, RunConfig, method_config
from lt_lib.recipes.build import build_loss
from lt_lib.training import fit, graphs, load_checkpoint, make_fabric, resolve_execution, step_learning_rate
from lt_lib.training.graphs import Recorded

CLASSES, SAMPLES = 3, 30
COUNTS = np.array([18, 8, 4])


def seed(number=0):
    return torch.Generator().manual_seed(number)


@pytest.fixture
def images():
    """Thirty uint8 images as they lie on a device: NHWC memory read as NCHW."""
    pixels = torch.randint(256, (SAMPLES, 8, 8, 3), dtype=torch.uint8, generator=seed())
    targets = torch.arange(CLASSES).repeat_interleave(torch.from_numpy(COUNTS))
    return pixels.permute(0, 3, 1, 2), targets


STATISTICS = torch.full((3,), 0.5), torch.full((3,), 0.25)


def augmented(batch, rng):
    return augment.normalise(augment.pad_crop_flip(batch, rng, padding=1), *STATISTICS)


def net(number=0):
    return seeded(lambda: CifarResNet(8, CLASSES), number).to(memory_format=torch.channels_last)


def objective(epochs, method="DRW", device="cpu"):
    config = method_config(method, RunConfig(epochs=epochs, weighting="effective_number", beta=0.9))
    if config.weighting != "none":
        config = config.changed(defer_until=0.5)
    return build_loss(config, COUNTS, device)


def train(model, images, execution, epochs=6, **options):
    settings = {
        "loss_at": objective(epochs),
        "learning_rate_at": step_learning_rate(epochs, 0.05, warmup=0.4),
        "epochs": epochs,
        "rng": seed(),
        "batch_size": 8,  # three whole batches and one of six
        "augment": augmented,
        "parameters": parameter_groups(model, 1e-3, decay_on="all_but_head_bias"),
        "execution": execution,
    }
    if "evaluation" not in options:
        settings["evaluation"] = {"test": (augmented(images[0], seed(9)), images[1])}
    return fit(model, *images, **(settings | options))


def assert_same(one, two, history, other, tolerance):
    """Weights, statistics, and everything that was recorded."""
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)
    assert other.train_loss == pytest.approx(history.train_loss, rel=tolerance)
    assert (other.learning_rate, other.evaluated) == (history.learning_rate, history.evaluated)
    assert other.accuracy == history.accuracy


def test_steps_on_buffers_equal_plain_steps(images):
    """Several epochs with a partial last batch, a deferred loss, augmentation and a changing rate."""
    plain, fast = net(), net()
    history = train(plain, images, "plain")
    assert_same(plain, fast, history, train(fast, images, "graph"), 2e-5)
    assert not torch.equal(plain.head.weight, net().head.weight)


def test_recorded_steps_equal_plain_steps(images, monkeypatch):
    """The Python of a step runs a few times per size of batch and loss; from then on only its operations do."""
    plain, fast, recorder = net(), net(), Recorder(strict=False)
    history = train(plain, images, "plain", epochs=12)
    with recorder.installed(monkeypatch):
        other = train(fast, images, "graph", epochs=12)
    assert_same(plain, fast, history, other, 2e-5)
    assert recorder.recorded == 5  # two losses, two sizes of batch each, and the evaluation
    # Of 12 x 4 steps and 12 evaluations, three of every kind were run by the host.
    assert recorder.replays == 12 * 4 + 12 - 5 * 3


def test_a_run_leaves_no_graph_behind(images, monkeypatch):
    """A graph holds memory of the device until it is freed, and the run is part of cycles."""
    graphs_made = []

    class Remembering(Recorder):
        def __call__(self, step, rng):
            replay = super().__call__(step, rng)
            graphs_made.append(weakref.ref(replay))
            return replay

    monkeypatch.setattr("gc.collect", lambda *_: 0)
    gc.disable()
    try:
        with Remembering(strict=False).installed(monkeypatch):
            train(net(), images, "graph", epochs=12)
        assert len(graphs_made) == 5
        assert [graph() for graph in graphs_made] == [None] * 5
    finally:
        gc.enable()


def test_only_replays_overlap_with_a_recording(monkeypatch):
    held = []

    def watched():
        held.append(graphs._ONE_RECORDING.locked())

    def record(step, _rng):
        step()
        return watched

    monkeypatch.setattr(graphs, "_recorder", lambda _device: record)
    step = Recorded(watched, seed(), torch.device("cpu"))
    for _ in range(6):
        step()
    # Three ordinary steps, the recording, then replays, of which the first follows the recording at once.
    assert held == [True] * 4 + [False] * 3
    graphs.give_up([step])
    assert step.replay is None


@pytest.mark.parametrize(("execution", "streams"), [("plain", 0), ("graph", 1), ("compile", 1)])
def test_a_training_that_fails_frees_its_graphs_on_its_stream(monkeypatch, execution, streams):
    freed = []

    @contextlib.contextmanager
    def stream(_device):
        try:
            yield
        finally:
            freed.append(step.replay is None)

    class Part:
        graphs = ()

    monkeypatch.setattr(graphs, "own_stream", stream)
    part, step = Part(), Recorded(print, seed(), torch.device("cpu"))
    step.replay = print
    with contextlib.suppress(KeyError), graphs.recording([part], torch.device("cpu"), execution):
        part.graphs = [step]  # recorded in the middle of the run
        raise KeyError
    assert step.replay is None
    assert freed == [True] * streams


def test_recorded_steps_advance_the_generator_as_plain_ones_do(images, monkeypatch):
    first, second = seed(4), seed(4)
    train(net(), images, "plain", rng=first)
    with Recorder(strict=False).installed(monkeypatch):
        train(net(), images, "graph", rng=second)
    assert torch.equal(first.get_state(), second.get_state())


def test_a_compiled_network_trains_as_the_plain_one(images, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(options) or copy_forward(model))
    plain, fast = net(), net()
    history = train(plain, images, "plain", epochs=3)
    assert_same(plain, fast, history, train(fast, images, "compile", epochs=3), 2e-5)
    assert compiled == [{"dynamic": False}]


class Forwarding(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        return self.inner(inputs)


def copy_forward(model):
    return Forwarding(model)


@pytest.mark.parametrize(("before", "after"), [("plain", "graph"), ("graph", "plain"), ("graph", "graph")])
def test_a_run_goes_on_from_a_checkpoint_in_either_way(images, tmp_path, monkeypatch, before, after):
    whole, broken, resumed = net(), net(), net(5)
    history = train(whole, images, "plain", epochs=10)
    with Recorder(strict=False).installed(monkeypatch):
        train(broken, images, before, epochs=10, checkpoint=tmp_path / "run.pt", stop_after=4)
        other = train(resumed, images, after, epochs=10, checkpoint=tmp_path / "run.pt", rng=seed(7))
    assert_same(whole, resumed, history, other, 2e-5)


def test_a_checkpoint_does_not_tell_how_its_steps_were_run(images, tmp_path):
    for execution in ("plain", "graph"):
        train(net(), images, execution, epochs=2, checkpoint=tmp_path / execution)
    plain, fast = (load_checkpoint(tmp_path / name, identity="")["optimizer"] for name in ("plain", "graph"))
    for mine, its in zip(fast["param_groups"], plain["param_groups"], strict=True):
        assert isinstance(mine["lr"], float)
        assert mine["lr"] == pytest.approx(its["lr"], rel=1e-6)
        assert mine.keys() == its.keys()


def test_an_order_of_another_length_is_recorded_anew(images, monkeypatch):
    """A re-sampled stage may draw fewer samples than the first one visits."""

    def order_at(epoch, rng):
        return torch.randperm(SAMPLES, generator=rng)[: 30 if epoch < 5 else 21]

    plain, fast = net(), net()
    options = {"order_at": order_at, "epochs": 10, "loss_at": lambda _epoch: F.cross_entropy}
    history = train(plain, images, "plain", **options)
    with Recorder(strict=False).installed(monkeypatch):
        other = train(fast, images, "graph", **options)
    assert_same(plain, fast, history, other, 2e-5)


def test_a_loss_that_is_not_finite_is_named_as_in_plain_steps(images, monkeypatch):
    bad = augmented(images[0].clone(), seed(1))
    bad[11] = float("nan")
    said = []
    for execution in ("plain", "graph"):
        with Recorder(strict=False).installed(monkeypatch), pytest.raises(ArithmeticError) as caught:
            train(net(), (bad, images[1]), execution, augment=None, evaluation=None)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_bfloat16_products_and_float32_weights(images):
    coarse, fine = net(), net()
    rough = train(coarse, images, "graph", epochs=2, fabric=make_fabric("cpu", "bfloat16"))
    exact = train(fine, images, "graph", epochs=2)
    assert {parameter.dtype for parameter in coarse.parameters()} == {torch.float32}
    assert 0 < abs(rough.train_loss[-1] - exact.train_loss[-1]) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_can_be_part_of_a_recorded_step(method):
    """No loss makes the host wait or sends numbers of the host to the device."""
    # Tensors without values: like a GPU, they skip the checks that read values, and reading one fails.
    loss = objective(4, method, device="meta")(3)
    logits = torch.empty(8, CLASSES, device="meta", requires_grad=True)
    targets = torch.empty(8, dtype=torch.int64, device="meta")
    with Tape() as tape:
        loss(logits, targets).backward()
    assert len(tape.operations) > 3


def test_a_whole_step_waits_for_nothing(images, monkeypatch):
    """Order, augmentation, forward, backward, update and the bookkeeping, on a strict tape."""

    def jitter(batch, rng):
        return augment.pad_crop_flip(batch, rng, padding=1).float() / 255

    held = jitter(images[0], seed(1)), images[1]
    with Recorder().installed(monkeypatch) as recorder:
        options = {"loss_at": lambda _epoch: F.cross_entropy, "augment": jitter, "evaluation": {"test": held}}
        train(net(), images, "graph", **options)
    assert recorder.recorded == 3


def test_the_tape_refuses_what_a_graph_cannot_hold():
    for forbidden in (lambda: float(torch.ones(1)), lambda: torch.tensor([1.0]), lambda: torch.ones(2).nonzero()):
        with pytest.raises(AssertionError, match="cannot be part of a recorded step"), Tape():
            forbidden()


def test_the_tape_repeats_a_plain_number_that_a_step_hides():
    """What the tests above would see if a rate or a counter stayed in Python."""
    total, calls = torch.zeros(()), []

    def step():
        calls.append(None)
        total.add_(len(calls))

    replay = Recorder()(step, seed())
    replay()
    replay()
    assert (float(total), len(calls)) == (2.0, 1)


def test_a_step_is_run_three_times_then_recorded_once(monkeypatch):
    counter, recorder = torch.zeros(()), Recorder()
    with recorder.installed(monkeypatch):
        recorded = Recorded(lambda: counter.add_(1), seed(), torch.device("cpu"))
        seen = []
        for _ in range(6):
            recorded()
            seen.append((float(counter), recorder.recorded))
    assert seen == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)]


class Graph:
    """As much of a CUDA graph as recording touches."""

    def __init__(self):
        self.generators, self.replays = [], 0

    def register_generator_state(self, rng):
        self.generators.append(rng)

    def replay(self):
        self.replays += 1


@pytest.fixture
def graphs_made(monkeypatch):
    made = []

    @contextlib.contextmanager
    def recording(graph, *, stream, capture_error_mode):
        assert (stream, capture_error_mode) == ("the stream of the run", "thread_local")
        assert not gc.isenabled()  # it could free another graph, which would end the recording
        made.append(graph)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "the stream of the run")
    return made


def test_on_a_gpu_a_graph_takes_over_with_the_generator_of_the_run(graphs_made):
    calls, rng = [], seed()
    recorded = Recorded(lambda: calls.append(None), rng, torch.device("cuda"))
    for _ in range(5):
        recorded()
    (graph,) = graphs_made
    assert graph.generators == [rng]
    assert (len(calls), graph.replays) == (4, 2)  # three ordinary runs, one that is recorded; then replays
    assert gc.isenabled()


def test_a_step_that_cannot_be_recorded_says_what_to_do(graphs_made):
    runs = []

    def step():
        runs.append(None)
        if len(runs) == 4:
            raise RuntimeError("operation not permitted when stream is capturing")

    recorded = Recorded(step, seed(), torch.device("cuda"))
    for _ in range(3):
        recorded()
    with pytest.raises(RuntimeError, match="could not be recorded .* not permitted .* `execution='plain'` trains"):
        recorded()
    assert gc.isenabled()
    assert not graphs._ONE_RECORDING.locked()


def test_the_stream_outside_waits_for_the_work_also_after_an_error(monkeypatch):
    class Stream(list):
        wait_stream = list.append

    inside, outside = Stream(), Stream()
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: inside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: outside)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())

    def work():
        with graphs.own_stream(torch.device("cuda")):
            assert inside == [outside]
            assert outside == []
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        work()
    assert outside[0] is inside


def test_auto_records_on_one_gpu_alone():
    assert resolve_execution("auto", "cuda") == "graph"
    assert resolve_execution("auto", "cuda", processes=2) == "plain"
    assert resolve_execution("auto", "cpu") == "plain"
    assert resolve_execution("compile", "cuda") == "compile"
    with pytest.raises(ValueError, match="`execution` must be one of"):
        resolve_execution("fast", "cpu")
    with pytest.raises(ValueError, match="`execution` must be 'plain' or 'auto' with 2 processes, got 'graph'"):
        resolve_execution("graph", "cuda", processes=2)
