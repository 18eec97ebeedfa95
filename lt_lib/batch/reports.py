"""What a place holds, as text, JSON, Markdown and HTML, in words that need no knowledge of the engine."""

import contextlib
import html
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lt_lib.batch.outcomes import describe, in_words
from lt_lib.batch.place import Place
from lt_lib.batch.states import STATES, RunState, count_states, run_name, survey


def status(place: Place) -> dict[str, Any]:
    """Where all grids of a place stand, as JSON.

    Returns:
        For each grid the number of runs per state, what runs and for how long, what failed and why, the time that is
        left while a batch works on it, seconds, the slowest cell and the peak of memory; and whether another version of
        an environment took part. Besides, how many published runs belong to no grid.
    """
    grids = []
    plans = place.plans()
    for plan in plans:
        states = survey(place, plan)
        grids.append(grid_status(place, plan, states))
    listed = {run["id"] for plan in plans for run in plan["runs"]}
    return {"place": place.location, "grids": grids, "in_no_grid": len(set(place.published()) - listed)}


def grid_status(place: Place, plan: Mapping[str, Any], states: Sequence[RunState]) -> dict[str, Any]:
    """Where one grid stands, see `status`."""
    done = [state for state in states if state.state == "done"]
    seconds = [state.manifest["seconds"] for state in done]
    environments = {state.manifest.get("provenance", {}).get("environment_digest") for state in done}
    driver = place.holder(f"grid.{plan['grid']}")
    driven = bool(driver and driver["alive"])
    running = [_running(place, state, plan["varied"]) for state in states if state.state == "running"]
    each = statistics.median(seconds) if seconds else plan.get("estimate")
    waiting = sum(state.state in ("pending", "damaged") for state in states)
    slowest = max(done, key=lambda state: state.manifest["seconds"], default=None)
    largest = max(done, key=lambda state: state.manifest["peak_memory_mb"], default=None)
    return {
        "grid": plan["grid"],
        "notebook": plan["notebook"],
        "runs": len(states),
        "counts": count_states(list(states)),
        "driven": driven,
        "seconds_left": _left(each, running, waiting) if driven else None,
        "seconds_median": statistics.median(seconds) if seconds else None,
        "seconds_total": round(sum(seconds), 3),
        "slowest": _slowest(place, slowest, plan["varied"]) if slowest else None,
        "peak_memory_mb": largest.manifest["peak_memory_mb"] if largest else None,
        "environments": len(environments),
        "running": running,
        "failed": [
            {"run": run_name(state, plan["varied"]), "reason": state.reason}
            for state in states
            if state.state in ("failed", "damaged")
        ],
    }


def status_text(content: Mapping[str, Any]) -> str:
    """The status for reading."""
    lines = []
    for grid in content["grids"]:
        counts = ", ".join(f"{grid['counts'][state]} {state}" for state in STATES if grid["counts"][state])
        lines.append(f"{grid['grid']} ({grid['notebook']}): {grid['runs']} runs: {counts}")
        if grid["driven"]:
            left = grid["seconds_left"]
            lines.append("  a batch works on it now" + (f", about {in_words(left)} left" if left is not None else ""))
        elif grid["counts"]["pending"] + grid["counts"]["damaged"] and not grid["running"]:
            lines.append("  no batch works on it: the same `lt-lib batch` goes on with what is not done")
        if grid["seconds_median"] is not None:
            lines.append(
                f"  {_time(grid['seconds_median'])} per run (median), {_time(grid['seconds_total'])} in all, "
                f"peak memory {grid['peak_memory_mb']:.0f} MB"
            )
        if grid["slowest"]:
            slow = grid["slowest"]
            cell = f", of which {_time(slow['cell_seconds'])} in cell {slow['cell']}" if slow["cell"] else ""
            lines.append(f"  slowest: {slow['run']}: {_time(slow['seconds'])}{cell}")
        if grid["environments"] > 1:
            lines.append(f"  done under {grid['environments']} different environments, see the manifests")
        lines += [f"  running: {entry['run']}: {_progress(entry)}" for entry in grid["running"]]
        lines += [f"  failed: {entry['run']}: {entry['reason']}" for entry in grid["failed"]]
    if content.get("in_no_grid"):
        lines.append(f"{content['in_no_grid']} published runs belong to no grid here")
    return "\n".join(lines) or "no grids yet"


def failures_text(place: Place) -> str:
    """Every failed run: why, where its log is, and the end of the trace that the notebook holds."""
    lines = []
    for plan in place.plans():
        for state in survey(place, plan):
            if state.state not in ("failed", "damaged"):
                continue
            lines.append(f"{plan['grid']} {run_name(state, plan['varied'])}")
            if state.state == "damaged":
                lines.append(f"  damaged: {state.reason}")
                continue
            lines.append(f"  {describe(state.outcome)}")
            for past in place.outcomes(state.id):
                folder = place.folder / "attempts" / state.id / past["attempt"]
                mark = " (forgotten)" if past.get("forgotten") else ""
                lines.append(f"  attempt {past['attempt']}: {past['kind']}{mark}, {folder / 'notebook.ipynb'}, log.txt")
    return "\n".join(lines) or "no failed runs"


def write_reports(place: Place, plan: Mapping[str, Any]) -> None:
    """Write `report.md`, `report.html` and `report.json` into the grid's folder."""
    states = survey(place, plan)
    content = grid_status(place, plan, states)
    place.save_report(plan["grid"], "report.json", json.dumps(content, indent=1) + "\n")
    header = ["run", *plan["varied"], "state", "attempts", "seconds", "memory (MB)", "remark"]
    rows = [_row(state, plan["varied"]) for state in states]
    summary = status_text({"grids": [content]}).splitlines()
    place.save_report(plan["grid"], "report.md", _markdown(plan["grid"], summary, header, rows))
    place.save_report(plan["grid"], "report.html", _html(plan["grid"], summary, header, rows))


def _running(place: Place, state: RunState, varied: Sequence[str]) -> dict[str, Any]:
    """A running run: which attempt it is, for how long, where, and the age of its checkpoint, as far as seen here."""
    found: dict[str, Any] = {"run": run_name(state, varied), "attempt": None, "host": None}
    found |= {"seconds": None, "checkpoint_age": None}
    now = time.time()
    for folder in place.attempts(state.id)[-1:]:
        try:
            note = json.loads((folder / "attempt.json").read_bytes())
            found["seconds"] = max(0.0, round(now - note["started"], 3))
            found["host"], found["attempt"] = note["host"].split(" ")[0], int(folder.name.partition("-")[0])
        except (OSError, ValueError, KeyError):
            continue
    written = []
    for path in (place.folder / "work" / state.id).rglob("*"):
        with contextlib.suppress(OSError):
            written += [path.stat().st_mtime] if path.is_file() else []
    if written:
        found["checkpoint_age"] = max(0.0, round(now - max(written), 3))
    return found


def _progress(entry: Mapping[str, Any]) -> str:
    """How far a running run is, in words."""
    parts = ["about to start" if entry["seconds"] is None else f"for {in_words(entry['seconds'])} on {entry['host']}"]
    if (entry["attempt"] or 1) > 1:
        parts.append(f"attempt {entry['attempt']}")
    if entry["checkpoint_age"] is not None:
        parts.append(f"checkpoint {in_words(entry['checkpoint_age'])} old")
    return ", ".join(parts)


def _left(each: float | None, running: Sequence[Mapping[str, Any]], waiting: int) -> float | None:
    """Seconds until all is done, if every run takes as long as `each` and as many run at once as do now."""
    if each is None or not running:
        return None
    begun = sum(max(0.0, each - (entry["seconds"] or 0.0)) for entry in running)
    return (begun + waiting * each) / len(running)


def _time(seconds: float) -> str:
    """Seconds with a decimal where they are few."""
    return f"{seconds:.1f} s" if seconds < 90 else in_words(seconds)


def _slowest(place: Place, state: RunState, varied: Sequence[str]) -> dict[str, Any]:
    """The slowest run with its slowest code cell, counted from one."""
    found = {"run": run_name(state, varied), "seconds": state.manifest["seconds"], "cell": None, "cell_seconds": None}
    try:
        cells = json.loads((place.run_folder(state.id) / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return found
    times = [
        (cell.get("metadata", {}).get("papermill", {}).get("duration") or 0.0, cell.get("execution_count"))
        for cell in cells
        if cell["cell_type"] == "code"
    ]
    seconds, count = max(times, default=(0.0, None), key=lambda pair: pair[0])
    return found | {"cell": count, "cell_seconds": seconds} if seconds else found


def _row(state: RunState, varied: Sequence[str]) -> list[str]:
    manifest = state.manifest
    return [
        state.id,
        *(str(state.parameters[key]) for key in varied),
        state.state,
        str(state.attempts),
        f"{manifest['seconds']:.1f}" if manifest else "",
        f"{manifest['peak_memory_mb']:.0f}" if manifest else "",
        state.reason,
    ]


def _markdown(title: str, summary: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    listed = [f"- {text.strip()}" for text in summary]
    return (
        "\n".join([f"# {title}", "", *listed, "", line(header), line(["---"] * len(header)), *map(line, rows)]) + "\n"
    )


def _html(title: str, summary: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    items = "\n".join(f"<li>{html.escape(text.strip())}</li>" for text in summary)
    body = "\n".join(line(row, "td") for row in rows)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>
body {{ font-family: sans-serif }}
table {{ border-collapse: collapse }}
td, th {{ border: 1px solid #999; padding: 2px 6px }}
</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<ul>
{items}
</ul>
<table>
<thead>{line(header, "th")}</thead>
<tbody>
{body}
</tbody>
</table>
</body>
</html>
"""
