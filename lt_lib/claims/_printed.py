"""What printed cells of one run each can tell."""

from collections.abc import Sequence

from lt_lib.claims._ranks import rank_correlation
from lt_lib.claims.core import Judgement
from lt_lib.claims.rules import in_half_widths

# Points by which two runs of one cell can differ by chance. Where the authors ran six of their printed cells again, the
# root mean square of the changes was 1.0 and the largest 1.4; a user's run of one of these cells was 2.6 points off.
SINGLE_RUN = 1.5


def printed_order(errors: Sequence[float], where: str) -> Judgement:
    """Whether printed errors rise along the pools.

    Holds from a rank correlation of 0.8 on. Below it, refuted if a pool has an error larger than that of a less
    balanced one by what two runs of one cell differ, else inconclusive.

    Args:
        errors: from the most balanced pool to the least.
        where: loss and ratio, for the printed rule.
    """
    rank = rank_correlation(list(range(len(errors))), list(errors))
    wrong = max(first - min(errors[place:]) for place, first in enumerate(errors))
    verdict = "holds" if rank >= 0.8 else "refuted" if wrong >= SINGLE_RUN else "inconclusive"
    text = f"Spearman >= 0.8, {where}, is {rank:.2g}; refuted if the order is wrong by {SINGLE_RUN:g} points or more"
    return Judgement(verdict, rank, threshold=text, distance=in_half_widths(rank - 0.8, 0.8))


def printed_difference(points: float, name: str) -> Judgement:
    """A difference of printed single runs: holds or is refuted from what two runs of one cell differ on.

    Args:
        points: claimed to be positive.
        name: of the difference, for the printed rule.
    """
    verdict = "holds" if points >= SINGLE_RUN else "refuted" if points <= -SINGLE_RUN else "inconclusive"
    text = f"{name} >= {SINGLE_RUN:g} points, what single runs can tell; refuted if <= {-SINGLE_RUN:g}"
    return Judgement(verdict, points, threshold=text, distance=in_half_widths(points - SINGLE_RUN, SINGLE_RUN))
