"""Texts as rows of word numbers: how a review is cut into words, which words are known, and which of them are kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lt_lib._checks import check_integer

PADDING = 0  # fills the row behind the last word
UNKNOWN = 1  # stands for every word outside the vocabulary
_FIRST_WORD = 2
# Letters a to z, with apostrophes inside: "don't" is one word, "<br />" is markup of the reviews and no word. Accented
# letters and a lone "<" are cut as described below; the vocabularies of finished runs rest on it.
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_MARKUP = re.compile(r"<[^>]*>")


def split_words(text: str) -> list[str]:
    """Words of a text in their order: runs of the letters a to z in lower case, with apostrophes inside.

    Everything else ends a word: digits, punctuation, and every letter outside a to z, so that "Amélie" gives "am" and
    "lie". Whatever stands between "<" and the next ">" is taken for an HTML tag and left out, words of a comparison
    such as "2 < 3 stars > 1" included.

    Example:
        >>> split_words("Don't panic.<br />It's 1979!")
        ["don't", 'panic', "it's"]
        >>> split_words("Amélie: 2 < 3 stars > 1, really")
        ['am', 'lie', 'really']
    """
    return _WORD.findall(_MARKUP.sub(" ", text.lower()))


def make_vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """Number the most frequent words of `texts`, the most frequent first; equally frequent ones by the alphabet.

    Numbers start at 2: 0 is padding and 1 is every other word.

    Args:
        texts: the training texts, and no others: a word that only the test set has is unknown.
        size: numbers in use, padding and unknown included, at least 3.

    Returns:
        Word -> number, at most ``size - 2`` entries.

    Raises:
        ValueError: ``size`` is below 3.

    Example:
        >>> make_vocabulary(["a film, a good film", "bad"], 5)
        {'a': 2, 'film': 3, 'bad': 4}
    """
    check_integer(size, "size", minimum=_FIRST_WORD + 1)
    counted: Counter[str] = Counter()
    for text in texts:
        counted.update(split_words(text))
    order = sorted(counted, key=lambda word: (-counted[word], word))
    return {word: number for number, word in enumerate(order[: size - _FIRST_WORD], start=_FIRST_WORD)}


def encode(texts: Sequence[str], vocabulary: Mapping[str, int], tokens: int) -> np.ndarray:
    """Turn texts into rows of word numbers, each of the last `tokens` words of its text, padded at the end.

    A review is cut at its front because it tends to end with its verdict.

    Args:
        texts: any texts.
        vocabulary: word -> number, see `make_vocabulary`.
        tokens: length of a row, at least 1.

    Returns:
        int64 (texts, tokens).

    Raises:
        ValueError: ``tokens`` is below 1.

    Example:
        >>> encode(["a good film", "bad"], {"a": 2, "film": 3, "bad": 4}, 2).tolist()
        [[1, 3], [4, 0]]
    """
    check_integer(tokens, "tokens", minimum=1)
    rows = np.full((len(texts), tokens), PADDING, dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        kept = [vocabulary.get(word, UNKNOWN) for word in split_words(text)[-tokens:]]
        row[: len(kept)] = kept
    return rows
