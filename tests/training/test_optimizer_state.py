"""Optimisers and where their state lies: made on the device of the run, continued whatever the device before."""

import pytest
import torch
from torch import nn

from lt_lib import losses
from lt_lib.recipes import RunConfig, build
from lt_lib.training import fit
from lt_lib.training.loop import load_optimizer, optimizer_state

ADAM = build.build_optimizer(RunConfig(optimizer="adam"))
STATES = ("step", "exp_avg", "exp_avg_sq")


class Moved(nn.Linear):
    """A layer that notes when it is moved to a device."""

    def __init__(self):
        super().__init__(2, 2)
        self.events = []

    def to(self, *arguments, **options):
        self.events.append("moved")
        return super().to(*arguments, **options)


def test_the_optimiser_is_made_where_the_model_is_trained():
    # Adam decides by the place of the parameters whether its steps can be recorded.
    model = Moved()

    def make(groups, **options):
        model.events.append("made")
        return ADAM(groups, **options)

    inputs, targets = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    fit(
        model, inputs, targets, epochs=1, rng=torch.Generator(), make_optimizer=make,
        loss_at=lambda _epoch: losses.softmax_loss, learning_rate_at=lambda _epoch: 0.1,
    )  # fmt: skip
    assert model.events[:2] == ["moved", "made"]


def stepped(device, **options):
    """An optimiser after one step, or for "meta" one whose parameters stand for a GPU's."""
    parameter = nn.Parameter(torch.ones(3, device=device))
    optimizer = torch.optim.Adam([parameter], lr=0.1, foreach=False, **options)
    if device == "cpu":
        parameter.sum().backward()
        optimizer.step()
    return optimizer, parameter


@pytest.mark.parametrize(("settings", "place"), [({"capturable": True}, "meta"), ({"capturable": False}, "cpu")])
def test_a_step_count_goes_where_the_continuing_run_needs_it(settings, place):
    saved = optimizer_state(stepped("cpu")[0])
    optimizer, parameter = stepped("meta", **settings)
    load_optimizer(optimizer, saved)
    assert {name: optimizer.state[parameter][name].device.type for name in STATES} == {
        "step": place, "exp_avg": "meta", "exp_avg_sq": "meta",
    }  # fmt: skip
    assert optimizer.param_groups[0]["capturable"] == settings["capturable"]


def test_a_run_keeps_its_own_settings_and_the_tensor_of_its_rate():
    saved = optimizer_state(stepped("cpu")[0])
    optimizer, parameter = stepped("cpu", weight_decay=0.5)
    rate = torch.tensor(0.3)
    optimizer.param_groups[0]["lr"] = rate
    load_optimizer(optimizer, saved)
    assert optimizer.param_groups[0]["lr"] is rate
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert optimizer.state[parameter]["step"].item() == 1
