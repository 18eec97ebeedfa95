"""Where every run of a plan stands, computed from the place alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lt_lib.batch.outcomes import describe, final_failure
from lt_lib.batch.place import DamagedRun, Place

if TYPE_CHECKING:
    from lt_lib.batch.plan import Run

STATES = ("done", "running", "failed", "damaged", "pending")


@dataclass(frozen=True)
class RunState:
    """Where one run stands.

    Attributes:
        id: the run.
        parameters: its parameters.
        state: one of `STATES`. A damaged run is published but not whole.
        reason: why it failed or is damaged, in words; how its last attempt ended if it is pending.
        manifest: of a published run, else empty.
        outcome: how its last attempt ended, else empty.
        attempts: attempts that ended.
    """

    id: str
    parameters: Mapping[str, Any]
    state: str
    reason: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0


def survey(place: Place, plan: Mapping[str, Any], *, contents: bool = False) -> list[RunState]:
    """Look up every run of a plan.

    Args:
        place: the place.
        plan: one of `Place.plans()`, or from `lt_lib.batch.plan.plan_content`.
        contents: also compare the digest of every published file.

    Returns:
        One state per run, in grid order.
    """
    attempted, claimed = place.attempted(), set(place.claims())
    found = []
    for run in plan["runs"]:
        name, parameters = run["id"], run["parameters"]
        try:
            manifest = place.manifest(name, run["digest"], contents=contents)
        except DamagedRun as error:
            found.append(RunState(name, parameters, "damaged", str(error)))
            continue
        if manifest is not None:
            attempts = 1 + len(manifest.get("earlier_attempts", []))
            found.append(RunState(name, parameters, "done", manifest=manifest, attempts=attempts))
            continue
        outcomes = place.outcomes(name) if name in attempted else []
        last = outcomes[-1] if outcomes else {}
        failure = final_failure(outcomes, plan["attempts"])
        holder = place.holder(name) if name in claimed else None
        if holder is not None and holder["alive"]:
            state = "running"
        else:
            state = "failed" if failure else "pending"
        reason = describe(failure or last) if state != "running" and last else ""
        found.append(RunState(name, parameters, state, reason, outcome=failure or last, attempts=len(outcomes)))
    return found


def run_name(run: "Run | RunState", varied: Sequence[str]) -> str:
    """A run by its id and by what sets it apart."""
    settings = " ".join(f"{name}={run.parameters[name]}" for name in varied)
    return f"{run.id} {settings}".rstrip()


def count_states(states: list[RunState]) -> dict[str, int]:
    """How many runs stand where."""
    return {name: sum(state.state == name for state in states) for name in STATES}
