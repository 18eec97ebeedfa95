"""Word counts of the IMDB reviews by rank: ``python -m tools.zipf --root data --out results/imdb-zipf.csv``.

The first ranks go to the table; where they come from goes to a JSON file of the same name beside it.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import lt_lib
from lt_lib import data
from lt_lib._paths import write_whole
from lt_lib.data.words import split_words

RANKS = 1000


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Number of occurrences of every word, lower case, without HTML tags.

    Example:
        >>> count_words(["Don't panic.<br />Don't!"]).most_common()
        [("don't", 2), ('panic', 1)]
    """
    words: Counter[str] = Counter()
    for text in texts:
        words.update(split_words(text))
    return words


def ranked(words: Counter[str], ranks: int) -> list[tuple[int, str, int]]:
    """The most frequent words as (rank, word, count); equal counts are in alphabetical order.

    Raises:
        ValueError: ``ranks`` is below 1, or there are fewer words.
    """
    if not 1 <= ranks <= len(words):
        raise ValueError(f"`ranks` must be between 1 and {len(words)}, the number of words, got {ranks}.")
    order = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:ranks]
    return [(rank, word, count) for rank, (word, count) in enumerate(order, start=1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and write the table and its provenance; the exit code is 0, or 2 if the reviews are not there."""
    parser = argparse.ArgumentParser(prog="python -m tools.zipf", description=__doc__)
    parser.add_argument("--root", help="folder that holds aclImdb; LT_DATA, else data/ if absent")
    parser.add_argument("--out", type=Path, default=Path("results/imdb-zipf.csv"), help="table to write")
    parser.add_argument("--ranks", type=int, default=RANKS, help="ranks to keep")
    options = parser.parse_args(arguments)
    try:
        reviews = data.load("imdb", root=options.root)
    except (data.MissingDataError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    words = count_words([*reviews.train.inputs, *reviews.test.inputs])
    rows = ranked(words, options.ranks)
    provenance = {
        "dataset": reviews.name,
        "reviews": len(reviews.train) + len(reviews.test),
        "tokens": words.total(),
        "distinct_words": len(words),
        "ranks_kept": len(rows),
        "words": "lower case, HTML tags removed, letters with apostrophes inside",
        "data_hash": data.data_hash(reviews),
        "lt_lib": lt_lib.__version__,
        "made_by": "python -m tools.zipf",
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ["rank,word,count", *(f"{rank},{word},{count}" for rank, word, count in rows)]
    write_whole(options.out, "\n".join(lines) + "\n")
    write_whole(options.out.with_suffix(".json"), json.dumps(provenance, indent=1) + "\n")
    print(f"wrote {len(rows)} ranks of {len(words):,} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
