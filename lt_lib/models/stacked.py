"""Many copies of one architecture, trained as a single batched model."""

import copy
import threading
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lt_lib.models.heads import CosineHead, split_by_decay, unit_vectors
from lt_lib.models.small import MLP


class StackedModel(nn.Module):
    """M models of the same architecture whose parameters are stacked along a new first axis.

    One forward pass computes all of them with batched matrix products; their gradients do not mix, because every loss
    term depends on one slice only. Ten seeds of a small network then cost little more than one.

    Args:
        models: modules that differ in the values of their parameters only, without buffers (batch statistics would be
            shared). A copy of the first one computes for all, in the mode that the first one is in: types and printed
            settings of all modules are compared.

    Shapes:
        inputs `(members, batch, ...)` -> logits `(members, batch, classes)`.

    Raises:
        ValueError: `models` is empty, holds buffers, or the shapes, types or settings differ.

    Example:
        >>> from lt_lib.models import MLP
        >>> stack = StackedModel([MLP(4, 3) for _ in range(5)])
        >>> stack(torch.zeros(5, 7, 4)).shape
        torch.Size([5, 7, 3])
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        if not models:
            raise ValueError("`models` must hold at least one module, got an empty sequence.")
        shapes = [{name: tuple(value.shape) for name, value in model.named_parameters()} for model in models]
        for position, other in enumerate(shapes):
            if other != shapes[0]:
                raise ValueError(
                    f"`models` must have equal parameter shapes, got a different one at position {position}."
                )
        for position, model in enumerate(models):
            _check_same_modules(models[0], model, position)
        if any(True for model in models for _ in model.buffers()):
            raise ValueError("`models` must hold no buffers (such as batch statistics): stacking would mix them.")
        parameters, _ = stack_module_state(list(models))
        self.names = list(parameters)
        # A ParameterList keeps the order and avoids dots, which module names cannot hold.
        self.stacked = nn.ParameterList([nn.Parameter(parameters[name].detach().clone()) for name in self.names])
        # The template gives the computation only; hidden in a list so that it adds no parameters of its own. A copy:
        # what the caller does with the model later, such as `eval()`, is not done to the stack.
        self._template = [copy.deepcopy(models[0])]
        self.training = models[0].training

    def __len__(self) -> int:
        return int(self.stacked[0].shape[0])

    def train(self, mode: bool = True) -> "StackedModel":
        """Set the mode of the stack and of the hidden template, which computes; `eval()` comes here too."""
        self._template[0].train(mode)
        return super().train(mode)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of every member on its own batch, `(members, batch, classes)`."""
        state = dict(zip(self.names, self.stacked, strict=True))
        template = self._template[0]
        if _is_plain_mlp(template):
            return _stacked_mlp(state, inputs)
        return vmap(lambda parameters, batch: functional_call(template, parameters, (batch,)))(state, inputs)

    def member(self, position: int) -> dict[str, Tensor]:
        """State dictionary of one member, detached: `template.load_state_dict(stack.member(3))`."""
        return {name: value[position].detach().clone() for name, value in zip(self.names, self.stacked, strict=True)}

    def parameter_groups(self, weight_decay: float, *, decay_on: str = "all") -> list[dict]:
        """As `lt_lib.models.parameter_groups`, for all members at once."""
        named = dict(zip(self.names, self.stacked, strict=True))
        return split_by_decay(named, weight_decay, decay_on)


def _check_same_modules(first: nn.Module, other: nn.Module, position: int) -> None:
    """Check that two models are built from modules of the same types and settings, in the same order."""
    expected, found = list(first.modules()), list(other.modules())
    if len(found) != len(expected):
        raise ValueError(
            f"`models` must hold the same modules, got {len(found)} modules for {len(expected)} at position {position}."
        )
    for one, two in zip(expected, found, strict=True):
        if type(one) is not type(two) or one.extra_repr() != two.extra_repr():
            names = [f"{type(module).__name__}({module.extra_repr()})" for module in (two, one)]
            raise ValueError(
                f"`models` must hold the same modules, got {names[0]} for {names[1]} at position {position}."
            )


def _is_plain_mlp(model: nn.Module) -> bool:
    """Whether `_stacked_mlp` computes what the model does: a subclass, or another head, may do something else."""
    if type(model) is not MLP:
        return False
    head = model.head
    return type(head) is CosineHead or (type(head) is nn.Linear and head.bias is not None)


def _stacked_mlp(state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """`MLP.forward` for all members. Bias and product in one call take half the time of a vectorised `linear`."""

    def linear(values: Tensor, name: str) -> Tensor:
        return torch.baddbmm(state[f"{name}.bias"].unsqueeze(1), values, state[f"{name}.weight"].transpose(1, 2))

    hidden = F.relu(linear(inputs.flatten(2), "layer1"), inplace=True)
    features = F.relu(linear(hidden, "layer2"), inplace=True)
    if "head.bias" in state:
        return linear(features, "head")
    return unit_vectors(features) @ unit_vectors(state["head.weight"]).transpose(1, 2)


_BORROWED = threading.RLock()


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call `build()` with PyTorch's generator seeded by `seed`, and give the generator back as it was.

    The process has one such generator, that of the CPU: threads take turns. Those of accelerators are left alone.

    Args:
        build: function without arguments that makes a module.
        seed: any integer that `torch.manual_seed` takes.
    """
    with _BORROWED, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds the generators of accelerators too.
        torch.default_generator.manual_seed(int(seed))
        return build()
