"""Claims of the notes and the checks that judge them.

A check measures, then judges; a verdict is never written by hand. The published numbers stand in `published`.
"""

from lt_lib.claims.core import Check, Claim, Judgement, verdict_table, worst
from lt_lib.claims.published import published, published_tables
from lt_lib.claims.rules import at_least, at_most, equal, positive_effect, published_and_ours, within

__all__ = [
    "Check",
    "Claim",
    "Judgement",
    "at_least",
    "at_most",
    "equal",
    "positive_effect",
    "published",
    "published_and_ours",
    "published_tables",
    "verdict_table",
    "within",
    "worst",
]
