"""The least time that a training step can take: what it computes and what it moves, against what the device can do.

Two counts per layer, for forward and backward pass. Operations: multiplications and additions of convolutions and
linear maps, from the shapes that pass through them. Bytes: every operation of PyTorch reads each of its inputs once and
writes each of its outputs once, nothing kept between operations ("unfused"). Both divided by rates that are measured on
the device give two times; the larger one is the floor. Kernels that join operations, or find their inputs in a cache,
can beat the bytes, none can beat the operations.
"""

import copy
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker


@dataclass
class Layer:
    """What one training step costs in one layer, or in the operations that a block does outside its layers.

    Attributes:
        name: of the module.
        flops: floating-point operations, a multiplication and an addition counting as two.
        bytes: moved between memory and processor, forward and backward. The sum over layers is exact; of the backward
            pass of a block, what follows an operation in place may be booked on its neighbour.
    """

    name: str
    flops: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Ceilings:
    """What a device can do: floating-point operations and bytes (read plus written) per second."""

    flops: float
    bytes: float


def count(model: nn.Module, batch: tuple[int, ...], *, dtype: torch.dtype = torch.bfloat16) -> list[Layer]:
    """Cost of one training step with cross entropy, layer by layer, without computing it.

    Args:
        model: network `(batch, ...) -> (batch, classes)`; a copy goes to the meta device, where tensors are but shapes.
        batch: shape of a batch of inputs.
        dtype: of activations and gradients.

    Returns:
        One `Layer` per module that costs anything, in the order of the forward pass, and one "update" for SGD with
        momentum in float32.
    """
    ghost = copy.deepcopy(model).to("meta", dtype).train()
    layers: dict[str, Layer] = {}
    names = {module: name for name, module in ghost.named_modules()}
    handles = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layer = layers.setdefault(names[module], Layer(names[module]))
        # Forward, gradient of the weights, and gradient of the inputs where somebody asks for it.
        layer.flops += _forward_flops(module, output) * (3 if inputs[0].requires_grad else 2)

    for module in ghost.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_hook(note))
    with ModuleTracker() as tracker, _Traffic(tracker, type(ghost).__name__, layers):
        logits = ghost(torch.empty(batch, device="meta", dtype=dtype))
        targets = torch.empty(batch[0], dtype=torch.int64, device="meta")
        F.cross_entropy(logits.float(), targets).backward()
    for handle in handles:
        handle.remove()
    weights = sum(parameter.numel() for parameter in ghost.parameters())
    # Read weight, momentum and gradient; write weight and momentum.
    update = Layer("update", flops=0, bytes=5 * 4 * weights)
    return [*layers.values(), update]


def _forward_flops(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        per_output = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
    else:
        per_output = module.in_features  # type: ignore[assignment]
    return 2 * per_output * output.numel()


class _Traffic(TorchDispatchMode):
    """Adds the bytes of every operation to the innermost module at work."""

    def __init__(self, tracker: ModuleTracker, root: str, layers: dict[str, Layer]) -> None:
        super().__init__()
        self.tracker, self.root, self.layers = tracker, root, layers

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        # Views move nothing; memory that is made without values is counted where it is written.
        if not function.is_view and function.overloadpacket.__name__ not in ("detach", "empty", "empty_like"):
            moved = [*tree_leaves((args, kwargs)), *tree_leaves(result)]
            path = max(self.tracker.parents, key=lambda name: (name != "Global", name.count(".")))
            name = path.removeprefix(self.root).removeprefix(".") if path != "Global" else "loss"
            layer = self.layers.setdefault(name or "model", Layer(name or "model"))
            layer.bytes += sum(_bytes(value) for value in moved if isinstance(value, Tensor))
        return result


def _bytes(tensor: Tensor) -> int:
    """Memory behind a tensor; an expanded one has less than its shape says."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return math.prod(sizes) * tensor.element_size()


def floor_seconds(layers: list[Layer], ceilings: Ceilings) -> dict[str, float]:
    """Both times of a step and the larger one, in seconds."""
    arithmetic = sum(layer.flops for layer in layers) / ceilings.flops
    traffic = sum(layer.bytes for layer in layers) / ceilings.bytes
    return {"arithmetic": arithmetic, "traffic": traffic, "floor": max(arithmetic, traffic)}


def measure_ceilings(device: str, *, size: int = 8192, gigabytes: float = 4.0) -> Ceilings:
    """Rate of a bfloat16 matrix product on random numbers, and bandwidth of a large copy, on this device.

    Args:
        device: "cpu" or "cuda".
        size: rows and columns of both matrices.
        gigabytes: of the copy, read plus written; several times the caches.
    """
    one, two = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = median_seconds(lambda: one @ two, device, repeats=10)
    source = torch.randn(int(gigabytes * 1e9 / 8), device=device)
    target = torch.empty_like(source)
    copy = median_seconds(lambda: target.copy_(source), device, repeats=10)
    return Ceilings(2 * size**3 / product, 2 * source.numel() * source.element_size() / copy)


def median_seconds(work: Callable[[], object], device: str, *, repeats: int, warm_up: int = 3) -> float:
    """Median time of `work`; on a GPU between events on its stream, so that the host's waiting stays out."""
    for _ in range(warm_up):
        work()
    if device == "cpu":
        timings = []
        for _ in range(repeats):
            started = time.perf_counter()
            work()
            timings.append(time.perf_counter() - started)
        return statistics.median(timings)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    pairs = itertools.pairwise(events)
    return statistics.median(first.elapsed_time(second) for first, second in pairs) / 1000
