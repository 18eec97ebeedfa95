"""A stand-in on the CPU for a recorded GPU step: the operations of one call, repeated without its Python.

Like a CUDA graph, a tape repeats the same operations on the same memory with the same plain numbers. A step that hides
something from it (a counter, a rate, a branch in Python) repeats what it did when it was recorded. A strict tape
refuses operations that no graph can hold, because the host waits for the device or sends it numbers of its own. Some
checks of arguments read values on a CPU, and there alone; steps with them go on a tape that is not strict.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lt_lib.training import graphs

WAITING = {
    "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique_dim", "_unique2",
    "lift_fresh", "bincount",
}  # fmt: skip


class Tape(TorchDispatchMode):
    """Records operations as they run, and repeats them."""

    def __init__(self, *, strict=True):
        super().__init__()
        self.strict, self.operations = strict, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name in WAITING and self.strict:
            raise AssertionError(f"{name} cannot be part of a recorded step")
        result = function(*args, **kwargs)
        # A view is the same memory again: nothing to repeat.
        if not function.is_view and name != "detach":
            self.operations.append((function, args, kwargs, result))
        return result

    def play(self):
        with torch.no_grad():
            for function, args, kwargs, result in self.operations:
                fresh = function(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(fresh), strict=True):
                    if isinstance(old, torch.Tensor) and old is not new:
                        old.detach().copy_(new)


class Recorder:
    """Takes the place of the CUDA recorder: `with recorder.installed(): ...`."""

    def __init__(self, *, strict=True):
        self.strict, self.recorded, self.replays = strict, 0, 0

    def __call__(self, step, rng):
        tape = Tape(strict=self.strict)
        self.recorded += 1

        def replay():
            self.replays += 1
            if tape.operations:
                tape.play()
                return
            # Unlike a GPU, the tape computes while it records: this is the first replay.
            with tape:
                step()

        return replay

    @contextlib.contextmanager
    def installed(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(graphs, "_recorder", lambda _device: self)
            yield self
