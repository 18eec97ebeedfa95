"""How an attempt can end, what that means for the run, and what to say about it."""

from collections.abc import Mapping, Sequence
from typing import Any

# Kind of end -> how many attempts may end so before the run counts as failed. None: as many as the grid's limit says.
_ALLOWED: dict[str, int | None] = {
    "notebook-error": 1,
    "early-exit": 1,
    "result-invalid": 1,
    "timeout": 2,
    "kernel-start": 5,
    "kernel-died": None,
    "worker-lost": None,
    "attempt-error": None,
}
# Kinds of end that can make a run count as failed.
FAILURES = tuple(_ALLOWED)
# These say nothing about the run itself, so they cost it nothing.
FREE = ("interrupted", "storage")
IN_WORDS = {
    "notebook-error": "a cell raised an error",
    "early-exit": "the notebook ended before its last cell",
    "result-invalid": "the result is missing or not valid",
    "timeout": "the run took longer than it may",
    "kernel-start": "the kernel did not start",
    "kernel-died": "the kernel died",
    "worker-lost": "the worker was lost",
    "attempt-error": "what runs the notebook failed itself",
    "interrupted": "the run was interrupted",
    "storage": "the place cannot be written",
}


def final_failure(outcomes: Sequence[Mapping[str, Any]], attempts: int) -> Mapping[str, Any] | None:
    """The outcome that makes a run count as failed; None if it may be tried again.

    Args:
        outcomes: how its attempts ended, oldest first.
        attempts: how many may lose their kernel or worker.
    """
    counted = [outcome for outcome in outcomes if outcome["kind"] not in FREE and not outcome.get("forgotten")]
    for kind, allowed in _ALLOWED.items():
        limit = attempts if allowed is None else allowed
        same = [outcome for outcome in counted if outcome["kind"] == kind]
        if len(same) >= limit:
            return same[-1]
    return None


def in_words(seconds: float) -> str:
    """A time for reading.

    Example:
        >>> in_words(42), in_words(600), in_words(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(outcome: Mapping[str, Any]) -> str:
    """One sentence on how an attempt ended.

    Example:
        >>> describe({"kind": "kernel-died", "cell": 3, "message": "by signal SIGKILL"})
        'the kernel died in cell 3: by signal SIGKILL'
    """
    words = IN_WORDS.get(outcome["kind"], outcome["kind"])
    cell = f" in cell {outcome['cell']}" if outcome.get("cell") else ""
    message = str(outcome.get("message", "")).strip().splitlines()
    return f"{words}{cell}" + (f": {message[-1]}" if message else "")
