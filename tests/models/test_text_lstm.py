"""The LSTM for texts against the recursion written out, and against PyTorch's packed sequences."""

import pytest
import torch
from torch import nn

from lt_lib.models import CosineHead, TextLSTM

LENGTHS = [5, 3, 1, 0, 6]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TextLSTM(20, 2, hidden=3).double()


def batch(tokens=6):
    rng = torch.Generator().manual_seed(1)
    words = torch.randint(1, 20, (len(LENGTHS), tokens), generator=rng)
    for row, length in zip(words, LENGTHS, strict=True):
        row[length:] = 0
    return words


def recursion(cell, inputs):
    """States of one direction, one word at a time: input, forget, candidate and output gate (PyTorch's order)."""
    state = carry = torch.zeros(cell.hidden_size, dtype=inputs.dtype)
    states = []
    for vector in inputs:
        gates = cell.weight_ih_l0 @ vector + cell.bias_ih_l0 + cell.weight_hh_l0 @ state + cell.bias_hh_l0
        enter, forget, candidate, leave = gates.chunk(4)
        carry = forget.sigmoid() * carry + enter.sigmoid() * candidate.tanh()
        state = leave.sigmoid() * carry.tanh()
        states.append(state)
    return torch.stack(states)


def test_each_text_alone_gives_the_recursion_written_out(net):
    words = batch()
    found = net.features(words)
    for row, length, features in zip(words, LENGTHS, found, strict=True):
        if length == 0:
            assert not features.any()
            continue
        states = net.vectors.weight[row[:length]]
        for ahead, back in zip(net.forwards, net.backwards, strict=True):
            states = torch.cat([recursion(ahead, states), recursion(back, states.flip(0)).flip(0)], dim=1)
        torch.testing.assert_close(features, states.mean(dim=0))
    torch.testing.assert_close(net(words), found @ net.head.weight.T + net.head.bias)


def test_it_is_pytorchs_bidirectional_lstm_on_packed_sequences(net):
    reference = nn.LSTM(3, 3, 2, bidirectional=True, batch_first=True).double()
    for layer in (0, 1):
        for suffix, cells in (("", net.forwards), ("_reverse", net.backwards)):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(reference, f"{kind}_l{layer}{suffix}").data = getattr(cells[layer], f"{kind}_l0").data
    words = batch()[[0, 1, 2, 4]]
    lengths = torch.tensor([5, 3, 1, 6])
    packed = nn.utils.rnn.pack_padded_sequence(net.vectors(words), lengths, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    torch.testing.assert_close(net.features(words), states.sum(dim=1) / lengths[:, None])


def test_more_padding_changes_neither_logits_nor_gradients(net):
    def gradients(words):
        net.zero_grad()
        net(words)[:, 0].sum().backward()
        return [parameter.grad.clone() for parameter in net.parameters()]

    short = batch()
    long = torch.cat([short, torch.zeros(len(short), 4, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(net(short), net(long))
    for one, two in zip(gradients(short), gradients(long), strict=True):
        torch.testing.assert_close(one, two)
    assert not net.vectors.weight.grad[0].any()


def test_both_ends_of_a_text_matter(net):
    words = batch()[4:]
    for place in (0, -1):
        other = words.clone()
        other[0, place] = 1 + other[0, place] % 19
        assert not torch.equal(net(words), net(other))


def test_the_head_can_be_a_cosine_and_no_state_is_held_back():
    net = TextLSTM(20, 2, hidden=3, head="cosine")
    assert isinstance(net.head, CosineHead)
    assert list(net.buffers()) == []
    assert net.features(batch()).shape == (5, 6)


def test_no_value_is_read_by_the_host():
    # A tensor without data raises as soon as the host asks for a number: on a GPU it would wait for one there.
    with torch.device("meta"):
        logits = TextLSTM(20, 2, hidden=3)(torch.empty(4, 6, dtype=torch.int64))
    assert (logits.device.type, logits.shape) == ("meta", (4, 2))
