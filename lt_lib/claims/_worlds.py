"""What the checks on Gaussian worlds share: which worlds, how many seeds, how long a tail."""

from collections.abc import Sized

# Balanced Bayes error 20, 10 and 5 %; a verdict on a Gaussian world must hold in all three.
WORLDS = ("gaussian:0.20", "gaussian", "gaussian:0.05")
NUM_SEEDS = 10
RATIO = 100.0


def worlds_in_words(measured: Sized) -> str:
    """Over how many data sets a judgement goes."""
    return f"{len(measured)} worlds" if len(measured) > 1 else "1 data set"
