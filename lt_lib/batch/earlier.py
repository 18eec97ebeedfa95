"""What becomes of an earlier plan when a grid of the same name brings another one."""

import contextlib
import time

from lt_lib.batch.place import Place, run_ids
from lt_lib.batch.plan import Plan

# Jobs of an array start together: the one that holds the grid may be about to write the plan that all of them have.
_SETTLING_SECONDS = 5.0


def compare_with_earlier(plan: Plan, place: Place, *, join: bool) -> str:
    """Look at the plan that this one would replace.

    Args:
        plan: what is to run.
        place: where an earlier plan of the same grid may lie.
        join: the plan shall run beside another batch of the grid.

    Returns:
        One sentence on finished runs that would be in no grid any more; empty if there are none.

    Raises:
        ValueError: another batch works on this grid with other runs, and shall be joined.
    """
    earlier = place.plan(plan.grid.name) if place.is_open else None
    ours = {run.id for run in plan.runs}
    if earlier is None or run_ids(earlier) == ours:
        return ""
    holder = place.holder(f"grid.{plan.grid.name}")
    if holder is not None and holder["alive"]:
        # Without `join` the driver refuses.
        if not join or _becomes(ours, place, plan.grid.name):
            return ""
        theirs = run_ids(earlier)
        raise ValueError(
            "`--join` must be given with the plan that the other batch works on, got another one: "
            f"{len(ours - theirs)} of its {len(ours)} runs are not among the {len(theirs)} of the other. Wait for that "
            "batch, or give this grid another `name`."
        )
    alone = set(place.dropped(plan.grid.name, ours))
    # A plan of another grid that cannot be read is no reason to run nothing of this one; `status` names it.
    with contextlib.suppress(ValueError, KeyError, TypeError):
        alone = alone.difference(*(run_ids(other) for other in place.plans() if other["grid"] != plan.grid.name))
    if not alone:
        return ""
    return (
        f"{len(alone)} finished runs of the earlier plan of {plan.grid.name} are in no grid now: status and collect "
        f"leave them out. That plan is kept beside the new one, as {place.kept_plan(plan.grid.name)}."
    )


def _becomes(ours: set[str], place: Place, grid: str) -> bool:
    """Whether the plan in the place is ours before long."""
    end = time.monotonic() + _SETTLING_SECONDS
    while True:
        found = place.plan(grid)
        if found is not None and run_ids(found) == ours:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
