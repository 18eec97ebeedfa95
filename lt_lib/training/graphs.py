"""Recorded training steps: run a few times by the host, then replayed by the GPU alone.

A step of a small network is a thousand kernels, most of them shorter than the time the host needs to start one. A CUDA
graph holds the kernels of a whole step (batch, augmentation, forward, backward, update) and starts them together. It
repeats them on the same memory, so that everything that changes from step to step lies on the device in buffers that
keep their place: the order of the epoch, the number of the step, the learning rate, the losses. Random numbers need no
care: a generator that is registered with a graph goes on in it exactly as it would without.
"""

import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch

from lt_lib._checks import check_known

EXECUTIONS = ("auto", "plain", "graph", "compile")
# Ordinary runs before a step is recorded: libraries choose their algorithms, the optimiser makes its buffers.
_WARM_UP = 3
# Of the steps of runs that train side by side in threads only replays may overlap with a recording. Ordinary steps load
# libraries, and a graph that is given up frees memory: both can break a recording in another thread. What an epoch does
# between its steps (its order, its mean loss, checkpoints) is not held back.
_ONE_RECORDING = threading.Lock()

Step = Callable[[], object]


def resolve_execution(execution: str, device_type: str, *, processes: int = 1) -> str:
    """Turn "auto" into the way of running steps that suits the device.

    Args:
        execution: "plain", step by step from the host; "graph", recorded where the device can, on a CPU the same
            steps on the same buffers without recording; "compile", as "graph" with the network compiled; "auto",
            "graph" on one GPU and "plain" elsewhere.
        device_type: "cpu", "cuda" or another type that PyTorch knows.
        processes: how many train together; only "plain" steps exchange gradients.

    Returns:
        "plain", "graph" or "compile".

    Raises:
        ValueError: unknown `execution`, or one that several processes cannot share.
    """
    check_known(execution, "execution", EXECUTIONS)
    if execution == "auto":
        return "graph" if device_type == "cuda" and processes == 1 else "plain"
    if execution != "plain" and processes > 1:
        raise ValueError(f"`execution` must be 'plain' or 'auto' with {processes} processes, got {execution!r}.")
    return execution


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work inside goes to a new stream of a GPU; a CPU has none.

    A step must be recorded on another stream than the default one, and its ordinary runs must have used the same.
    Runs in several threads overlap on the GPU, each on its own stream.
    """
    if device.type != "cuda":
        yield
        return
    stream, outside = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(outside)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        # Also after an error: memory of the stream outside must not be used again before the work here has ended.
        outside.wait_stream(stream)


class Recorded:
    """A step that is run by the host at first and replayed afterwards; on a CPU the host runs it every time.

    Args:
        step: function without arguments, whose results stay in tensors that live outside it. It is called a few times,
            then once more to be recorded, and never again.
        rng: generator that the step draws from.
        device: where the step computes.
    """

    def __init__(self, step: Step, rng: torch.Generator, device: torch.device) -> None:
        self.step, self.rng = step, rng
        self.record = _recorder(device)
        self.runs = 0
        self.replay: Step | None = None

    def __call__(self) -> None:
        """One step."""
        if self.record is None:
            self.step()
            return
        if self.replay is None:
            with _ONE_RECORDING:
                if self.runs < _WARM_UP:
                    self.runs += 1
                    self.step()
                    return
                self.replay = self.record(self.step, self.rng)
        self.replay()


def give_up(steps: Iterable[Recorded]) -> None:
    """Free the graphs of steps that will not be called again, now instead of at some later collection of garbage."""
    with _ONE_RECORDING:
        for step in steps:
            step.replay = None


class Recording(Protocol):
    """A part of a training whose steps may be recorded."""

    @property
    def graphs(self) -> Iterable[Recorded]:
        """What is recorded at present."""


@contextmanager
def recording(parts: Sequence[Recording], device: torch.device, execution: str) -> Iterator[None]:
    """The epochs of one training: on a stream of their own unless "plain", their graphs freed however they end.

    Args:
        parts: all that may record; what they hold is asked at the end.
        device: where the training computes.
        execution: from `resolve_execution`.
    """
    with nullcontext() if execution == "plain" else own_stream(device):
        try:
            yield
        finally:
            give_up(graph for part in parts for graph in part.graphs)


def _recorder(device: torch.device) -> Callable[[Step, torch.Generator], Step] | None:
    return _record if device.type == "cuda" else None


def _record(step: Step, rng: torch.Generator) -> Step:
    """A CUDA graph of `step`, as the function that replays it. Nothing is computed while it is recorded.

    Raises:
        RuntimeError: something in the step cannot be recorded.
    """
    graph: Any = torch.cuda.CUDAGraph()
    graph.register_generator_state(rng)
    here, collects = torch.cuda.current_stream(), gc.isenabled()
    # A collection in the middle could free another graph, which ends the recording.
    gc.disable()
    try:
        with torch.cuda.graph(graph, stream=here, capture_error_mode="thread_local"):
            step()
    except RuntimeError as error:
        raise RuntimeError(
            "a training step could not be recorded as a CUDA graph: its loss, augmentation or views make the host "
            f"wait, or use numbers of the host ({error}). `execution='plain'` trains without recording."
        ) from error
    finally:
        if collects:
            gc.enable()
    return graph.replay
