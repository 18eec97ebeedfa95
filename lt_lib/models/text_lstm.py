"""A two-layer bidirectional LSTM over word numbers: the network of the IMDB rows."""

import torch
from torch import Tensor, nn

from lt_lib._checks import check_integer
from lt_lib.models.heads import make_head


class TextLSTM(nn.Module):
    r"""Word vectors, two bidirectional LSTM layers, the mean over the words of a text, one head.

    .. math:: x = \frac1T\sum_{t=1}^{T} \big[\overrightarrow{h}_t, \overleftarrow{h}_t\big]

    over the T words of a text, with the states of the second layer.

    Padding changes nothing, whatever its length: it stands behind the words, where a state that reads forwards has
    already given its outputs; the text is turned around in place for the state that reads backwards, so that padding
    comes last for it too; and the mean leaves it out. Lengths stay on the device, so no step waits for the host, as
    packed sequences would make it. There is no dropout: initial weights and order decide a run.

    Args:
        vocabulary: word numbers 0 ... `vocabulary` - 1, of which 0 is padding; >= 1.
        num_classes: number of classes, >= 2.
        hidden: width of the word vectors and of each direction of both layers, >= 1.
        head: "linear" or "cosine".

    Shapes:
        word numbers `(batch, tokens)`, integers, padded at the end -> logits `(batch, num_classes)`; `features` gives
        `(batch, 2 * hidden)`. A text without words has features 0.

    Raises:
        ValueError: a size is out of range, or `head` is unknown.

    References:
        S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 1997. Cao et al. 2019, section
        4, train a two-layer bidirectional LSTM on IMDB and say no more about it: width, mean and vectors are ours.
    """

    def __init__(self, vocabulary: int, num_classes: int, *, hidden: int = 128, head: str = "linear") -> None:
        super().__init__()
        check_integer(vocabulary, "vocabulary", minimum=1)
        check_integer(num_classes, "num_classes", minimum=2)
        check_integer(hidden, "hidden", minimum=1)
        self.vectors = nn.Embedding(vocabulary, hidden, padding_idx=0)
        self.forwards = nn.ModuleList([nn.LSTM(width, hidden, batch_first=True) for width in (hidden, 2 * hidden)])
        self.backwards = nn.ModuleList([nn.LSTM(width, hidden, batch_first=True) for width in (hidden, 2 * hidden)])
        self.head = make_head(head, 2 * hidden, num_classes)

    def features(self, words: Tensor) -> Tensor:
        """Mean state of both directions over the words of each text, `(batch, 2 * hidden)`."""
        real = words != 0
        lengths = real.sum(dim=1, keepdim=True)
        place = torch.arange(words.shape[1], device=words.device)
        # Position t of a text of T words reads word T - 1 - t; applied twice, the order is the first again.
        turned = torch.where(real, lengths - 1 - place, place).unsqueeze(-1)
        states = self.vectors(words)
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            reading = turned.expand_as(states)
            one, _ = ahead(states)
            two, _ = back(states.gather(1, reading))
            states = torch.cat([one, two.gather(1, turned.expand_as(two))], dim=-1)
        return (states * real.unsqueeze(-1)).sum(dim=1) / lengths.clamp(min=1)

    def forward(self, words: Tensor) -> Tensor:
        """Logits or cosines `(batch, num_classes)`."""
        return self.head(self.features(words))
