"""One claim in several settings, no one of which may decide alone."""

from collections.abc import Mapping

from lt_lib.claims.core import Judgement, worst


def agreed(parts: Mapping[str, Judgement], name: str = "") -> Judgement:
    """The common verdict over settings; inconclusive where they disagree.

    Args:
        parts: at least one, by setting.
        name: of what is judged, for the printed rule.

    Example:
        >>> won, lost = Judgement("holds", 1.0), Judgement("refuted", -1.0)
        >>> agreed({"easy": won, "hard": lost}, "gain").threshold
        'gain: same verdict in each setting; found easy: holds, hard: refuted'
    """
    if len({part.verdict for part in parts.values()}) == 1:
        return worst(parts.values())
    found = ", ".join(f"{setting}: {part.verdict}" for setting, part in parts.items())
    text = f"same verdict in each setting; found {found}"
    return Judgement("inconclusive", threshold=f"{name}: {text}" if name else text)
