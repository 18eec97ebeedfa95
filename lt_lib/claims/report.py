"""Tables of judged claims and errata: as text, as CSV and as Markdown."""

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_lib._checks import check_known
from lt_lib._paths import writable_folder, write_whole
from lt_lib.claims.core import verdict_table
from lt_lib.claims.errata import Erratum
from lt_lib.claims.judging import Outcome
from lt_lib.claims.ledger import PROFILES, Row

if TYPE_CHECKING:
    import pandas as pd

CLAIM_COLUMNS = (
    "id", "source", "type", "profile", "verdict", "statistic", "low", "high", "threshold", "notebook", "reason",
    "digest",
)  # fmt: skip
ERRATA_COLUMNS = tuple(name for name in CLAIM_COLUMNS if name not in ("low", "high"))
# Rows up to which the notebook of each is named: who asks for a few wants to know why.
_FEW = 10
ORDER = ("broken", "refuted", "inconclusive", "holds", "not judged")


def significant(value: float) -> str:
    """Three significant digits, which hold on another processor; empty for NaN.

    Example:
        >>> significant(0.123456), significant(1234.5), significant(float("nan")), significant(-0.0)
        ('0.123', '1230', '', '0')
    """
    if math.isnan(value):
        return ""
    if math.isinf(value) or value == 0:
        return str(value) if value else "0"
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if abs(rounded) >= 1000 else f"{rounded:.3g}"


def claim_record(outcome: Outcome) -> dict[str, str]:
    """One line of the table of claims, by `CLAIM_COLUMNS`; also serves an erratum, whose source names its lines.

    Args:
        outcome: of a row or an erratum.
    """
    subject, judged = outcome.subject, outcome.judgement
    if isinstance(subject, Row):
        source, kind = subject.claim.source, subject.claim.kind
    else:
        source, kind = f"{subject.source} {subject.lines}", subject.kind
    numbers = {name: significant(getattr(judged, name)) if judged else "" for name in ("statistic", "low", "high")}
    return {
        "id": str(subject.id),
        "source": source,
        "type": kind,
        "profile": outcome.profile,
        "verdict": outcome.verdict,
        **numbers,
        "threshold": judged.threshold if judged else "",
        "notebook": subject.notebook,
        "reason": judged.why if judged else outcome.error.strip().splitlines()[-1],
        "digest": outcome.digest,
    }


def claims_csv(outcomes: Iterable[Outcome], columns: Sequence[str] = CLAIM_COLUMNS) -> str:
    """The table as CSV text, by number.

    Args:
        outcomes: of rows, or of errata with `ERRATA_COLUMNS`.
        columns: which columns, in order.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(claim_record(outcome) for outcome in sorted(outcomes, key=_number))
    return text.getvalue()


def claims_text(claims: Sequence[Outcome], errata: Sequence[Outcome] = ()) -> str:
    """The tables as they are printed: broken checks, then the claims with surprises first, the errata, the counts.

    Args:
        claims: outcomes of rows.
        errata: outcomes of errata.
    """
    judged = [(o.subject.claim, o.judgement) for o in claims if isinstance(o.subject, Row) and o.judgement]
    parts = [f"{_named(o)} is broken:\n{o.error}" for o in (*claims, *errata) if o.verdict == "broken"]
    parts.append(verdict_table(judged))
    shown = [o for o in sorted(errata, key=_number) if o.verdict not in ("not judged", "broken")]
    if shown:
        lines = ["errata shown by running (holds: the printed statement is wrong)"]
        for outcome in shown:
            entry = claim_record(outcome)
            lines.append(f"{entry['id']:>4}  {entry['verdict']:<12}  {entry['statistic']:>9}  {entry['threshold']}")
        parts.append("\n".join(lines))
    places = [f"row {o.subject.id} by notebook {o.subject.notebook}" for o in claims if isinstance(o.subject, Row)]
    if 0 < len(places) <= _FEW:
        parts.append(f"explained: {', '.join(places)}")
    parts.append(counts_in_words("claims", claims) + (f"\n{counts_in_words('errata', errata)}" if errata else ""))
    return "\n\n".join(parts)


def counts_in_words(name: str, outcomes: Iterable[Outcome]) -> str:
    """How many of each verdict, such as "claims: 10 refuted, 71 holds"."""
    found = Counter(outcome.verdict for outcome in outcomes)
    return f"{name}: " + ", ".join(f"{found[verdict]} {verdict}" for verdict in ORDER if found[verdict])


def claims_markdown(claims: Sequence[Outcome], errata: Sequence[Outcome] = ()) -> str:
    """The tables as a Markdown page, in the order of `claims_text`.

    Args:
        claims: outcomes of rows.
        errata: outcomes of errata.
    """
    profiles = sorted({outcome.profile for outcome in claims})
    parts = ["# Claims, judged", f"Profile {', '.join(profiles)}. {counts_in_words('Claims', claims)}."]
    parts += [f"{_named(o)} is broken:\n\n```\n{o.error}```" for o in (*claims, *errata) if o.verdict == "broken"]
    ranks = {verdict: rank for rank, verdict in enumerate(ORDER)}
    rows = []
    for outcome in sorted(claims, key=lambda o: (ranks[o.verdict], _number(o))):
        entry, subject = claim_record(outcome), outcome.subject
        statement = subject.claim.statement if isinstance(subject, Row) else ""
        measured = entry["statistic"] + (f" [{entry['low']}, {entry['high']}]" if entry["low"] or entry["high"] else "")
        rule = entry["reason"] or entry["threshold"]
        rows.append((entry["id"], entry["verdict"], statement, entry["source"], measured, rule, entry["notebook"]))
    parts.append(_table(("row", "verdict", "claim", "source", "measured", "holds if, or why not", "notebook"), rows))
    if errata:
        parts += [
            "# Errata",
            f"{counts_in_words('Errata', errata)}. An erratum holds if the printed statement is wrong.",
        ]
        lines = []
        for outcome in sorted(errata, key=_number):
            entry, subject = claim_record(outcome), outcome.subject
            texts = (subject.says, subject.right) if isinstance(subject, Erratum) else ("", "")
            rule = entry["reason"] or entry["threshold"]
            lines.append((entry["id"], entry["source"], *texts, entry["verdict"], entry["statistic"], rule))
        parts.append(
            _table(("erratum", "source", "says", "right", "verdict", "measured", "wrong if, or why not"), lines)
        )
    return "\n\n".join(parts) + "\n"


def prepare_folder(folder: str | os.PathLike[str], rows: Iterable[Row]) -> Path:
    """Make the folder of a report, before anything is judged, and see that nothing in it would be lost.

    Args:
        folder: made if missing.
        rows: about to be judged.

    Returns:
        The folder.

    Raises:
        ValueError: the folder cannot be made or written to, or its claims.csv holds rows besides `rows`.
    """
    place = writable_folder(folder, "out")
    table = place / "claims.csv"
    if table.is_file():
        with open(table, newline="", encoding="utf-8") as file:
            others = {line["id"] for line in csv.DictReader(file)} - {str(row.id) for row in rows}
        if others:
            raise ValueError(
                f"`out` must not hold a table of other rows, which would be lost; {table} has {len(others)} "
                "besides these."
            )
    return place


def write_report(folder: Path, claims: Sequence[Outcome], errata: Sequence[Outcome] = (), *, seed: int) -> list[Path]:
    """Write claims.csv, claims.md and claims.json, and errata.csv if there are errata; each is replaced in one step.

    Args:
        folder: see `prepare_folder`.
        claims: outcomes of rows.
        errata: outcomes of errata.
        seed: that they were judged with; recorded in claims.json with the versions and the processor.

    Returns:
        The files written.
    """
    texts = {"claims.csv": claims_csv(claims), "claims.md": claims_markdown(claims, errata)}
    if errata:
        texts["errata.csv"] = claims_csv(errata, ERRATA_COLUMNS)
    about = {"seed": seed, "profiles": sorted({outcome.profile for outcome in claims}), **_provenance()}
    texts["claims.json"] = json.dumps(about, indent=1, sort_keys=True) + "\n"
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts]


def _provenance() -> dict[str, Any]:
    from lt_lib.recipes.result import versions
    from lt_lib.training import describe_device

    return {"versions": versions(), "device": describe_device("cpu"), "made_by": "lt-lib claims"}


def stored_tables(folder: str | os.PathLike[str], name: str = "claims") -> "dict[str, pd.DataFrame]":
    """The tables of verdicts in a folder, such as claims-quick.csv, by profile in the order quick, small, paper.

    Args:
        folder: where they lie.
        name: "claims" or "errata".

    Returns:
        Per profile that has a table, all its columns as texts, empty where nothing stands, except the numbers
        "statistic", "low" and "high"; the index is "id".

    Raises:
        ValueError: unknown name, or no table in the folder.
    """
    import pandas as pd

    check_known(name, "name", ("claims", "errata"))
    paths = {profile: Path(folder) / f"{name}-{profile}.csv" for profile in PROFILES}
    tables = {
        profile: pd.read_csv(path, dtype=str, index_col="id") for profile, path in paths.items() if path.is_file()
    }
    if not tables:
        raise ValueError(
            f"`folder` must hold a table such as {name}-quick.csv, which `make claims` makes, got {folder}."
        )
    for table in tables.values():
        numbers = [column for column in ("statistic", "low", "high") if column in table]
        texts = table.columns.difference(numbers)
        table[texts] = table[texts].fillna("")
        table[numbers] = table[numbers].astype(float)
    return tables


def _named(outcome: Outcome) -> str:
    return f"{'erratum' if isinstance(outcome.subject, Erratum) else 'row'} {outcome.subject.id}"


def _number(outcome: Outcome) -> int:
    subject = outcome.subject
    return subject.number if isinstance(subject, Erratum) else subject.id


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
