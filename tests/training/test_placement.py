import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lt_lib.training import computes_bfloat16, describe_device, make_fabric, resolve_device


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ValueError, match="`device` must be one this machine has, got 'cuda' without a usable GPU"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [resolve_device(name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="`device` must be one of 'auto', 'cpu', 'cuda', got 'tpu'"):
        resolve_device("tpu")
    with pytest.raises(ValueError, match="`precision` must be one of 'float64', .*, got 'float16'"):
        make_fabric("cpu", "float16")


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_bfloat16_on_a_cpu_is_a_matter_of_its_instructions(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert computes_bfloat16("cpu") is expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_on_a_gpu_is_a_matter_of_its_generation(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert computes_bfloat16("cuda") is expected
    assert not computes_bfloat16("mps")


class Meet(torch.autograd.Function):
    """The identity, whose backward pass says that it has begun and waits for another to have ended."""

    @staticmethod
    def forward(ctx, inputs, begun, ended):
        ctx.begun, ctx.ended = begun, ended
        return inputs.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.begun.set()
        assert ctx.ended.wait(60)
        return gradient, None, None


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_trainings_in_threads_do_not_stop_each_other(precision):
    """One thread's backward pass begins and ends within another's. Fabric keeps one flag for all of them."""
    begun, ended = threading.Event(), threading.Event()

    def train(outer):
        fabric = make_fabric("cpu", precision)
        network = torch.nn.Linear(2, 1)
        model, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
        outputs = model(torch.ones(1, 2))
        if outer:
            loss = Meet.apply(outputs, begun, ended).sum()
        else:
            loss = outputs.sum()
            assert begun.wait(60)
        try:
            fabric.backward(loss)
        finally:
            ended.set()
        optimizer.step()
        return outputs.dtype, network.weight.grad.tolist()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(train, (True, False))) == [(torch.float32, [[1.0, 1.0]])] * 2


def test_bfloat16_products_are_rounded_and_weights_are_not():
    fabric = make_fabric("cpu", "bfloat16")
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1 + 2**-10)
    model = fabric.setup(network)
    assert model(torch.ones(1, 1)).item() == 1.0
    assert network.weight.item() == 1 + 2**-10


def test_devices_are_named(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SIMD")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    assert (describe_device("cpu"), describe_device("cuda")) == ("CPU (SIMD)", "some GPU")
