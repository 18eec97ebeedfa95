"""Where a run computes and in which number format.

Placement goes through Lightning Fabric: one object moves the model, wraps the optimiser, chooses autocast, and starts
several processes when there are several GPUs, while the loop below stays plain PyTorch that can be read top to bottom.
Accelerate does the same job, but takes its settings from a file outside the project by default and pulls in a model hub
client that nothing here uses.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from lt_lib._checks import check_known

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS: dict[str, Any] = {"float64": "64-true", "float32": "32-true", "bfloat16": "bf16-mixed"}


def computes_bfloat16(device_type: str) -> bool:
    """Whether the device multiplies bfloat16 numbers in hardware.

    Emulated bfloat16 is an order of magnitude *slower* than float32 (measured: 13 times, on a CPU that has AVX2 only),
    so the answer decides the default.

    Args:
        device_type: "cpu", "cuda" or another type that PyTorch knows.
    """
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8
    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def resolve_device(device: str) -> str:
    """Turn "auto" into "cuda" where a GPU can be used and "cpu" elsewhere; other names are checked and returned.

    Raises:
        ValueError: `device` is not "auto", "cpu" or "cuda", or it is "cuda" and there is none.
        TypeError: it is no text.
    """
    check_known(device, "device", ("auto", "cpu", "cuda"))
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device` must be one this machine has, got 'cuda' without a usable GPU.")
    return device


def make_fabric(device: str, precision: str, *, num_devices: int = 1) -> "Fabric":
    """Build the placement object of a run.

    Args:
        device: "cpu" or "cuda".
        precision: "float64", "float32" or "bfloat16" (weights in float32, products in bfloat16).
        num_devices: processes; more than one trains data-parallel, each process on its share of every batch.

    Raises:
        ValueError: unknown `precision`.
        TypeError: it is no text.
    """
    check_known(precision, "precision", PRECISIONS)
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    if num_devices > 1:
        return Fabric(accelerator=device, devices=num_devices, precision=PRECISIONS[precision], strategy="ddp")
    # A run on one device is a process of its own, also as one of many tasks that a cluster's scheduler started.
    plugins: list[Any] = [LightningEnvironment()]
    if precision == "bfloat16":
        return Fabric(accelerator=device, devices=1, plugins=[*plugins, _bfloat16(device)])
    return Fabric(accelerator=device, devices=1, precision=PRECISIONS[precision], plugins=plugins)


def _bfloat16(device: str) -> Any:
    """Fabric's mixed precision, without the check that trainings in several threads trip over.

    Fabric hooks every output to see that `backward` is called through it, with one flag for the whole process: of two
    threads, one clears the flag while the other is in its backward pass. Only a scaler of gradients would need that
    detour, and bfloat16 has none.
    """
    from lightning_fabric.plugins.precision import MixedPrecision, Precision

    class Bfloat16(MixedPrecision):
        backward = Precision.backward

    return Bfloat16("bf16-mixed", device)


def number_format(fabric: "Fabric") -> AbstractContextManager[Any]:
    """Context of the steps of a run: new tensors, outputs among them, have the number format of its weights.

    Fabric returns outputs in PyTorch's default dtype, in which a float64 run would lose half its digits.
    `Fabric.init_tensor` would set the device too, by a detour through Python at every call.
    """
    return fabric.strategy.precision.tensor_init_context()


def describe_device(device: str) -> str:
    """Name of the device for a result row, such as "NVIDIA H200" or "CPU (AVX2)"."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU ({torch.backends.cpu.get_cpu_capability()})"
