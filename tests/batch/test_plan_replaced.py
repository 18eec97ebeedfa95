"""A grid of the same name with other points: what it leaves out is said, counted and kept."""

import json

import pytest
from batch.cases import keep_plan, publish, write_grid

from lt_lib.batch import earlier
from lt_lib.batch.grid import load_grid
from lt_lib.batch.plan import make_plan

LEFT_OUT = "finished runs of the earlier plan of g are in no grid now"


@pytest.fixture
def three(place, make_test_plan):
    """A plan of three runs, two of them done."""
    plan = make_test_plan("axes: {x: [1, 2, 3]}\n")
    keep_plan(place, plan)
    for run in plan.runs[:2]:
        publish(place, plan, run, {"row": {"accuracy_last": 0.5}})
    return plan


@pytest.fixture
def batch(place, call, tmp_path):
    """Runs a grid of this name and text in the place."""

    def batch(text, *words, name="g"):
        path = write_grid(tmp_path / "grid", text)
        path.write_text(path.read_text().replace("name: g", f"name: {name}"))
        return call("batch", path, "--out", place.folder, "--scheduler", "sequential", *words)

    return batch


def kept(place):
    return sorted((place.folder / "grids" / "g").glob("plan-*.json"))


@pytest.mark.faults
def test_finished_runs_that_a_new_plan_leaves_out_are_counted_and_their_plan_is_kept(place, three, batch, call):
    before = (place.folder / "grids" / "g" / "plan.json").read_bytes()
    code, said = batch("axes: {x: [1]}\n")
    (path,) = kept(place)
    assert code == 0
    assert f"1 {LEFT_OUT}" in said  # the third is not done
    assert path.name in said
    assert path.read_bytes() == before
    code, said = call("status", place.folder)
    assert (code, said.splitlines()[-1]) == (0, "1 published runs belong to no grid here")
    assert json.loads(call("status", place.folder, "--json")[1])["in_no_grid"] == 1
    # Neither the same plan again, nor one that has all of them back, leaves anything out.
    assert LEFT_OUT not in batch("axes: {x: [1]}\n")[1]
    assert LEFT_OUT not in batch("axes: {x: [2, 1]}\n")[1]
    assert "belong to no grid" not in call("status", place.folder)[1]
    assert kept(place) == [path]


def test_a_plan_that_only_adds_or_drops_what_is_not_done_leaves_nothing_out(place, three, batch):
    assert LEFT_OUT not in batch("axes: {x: [1, 2]}\n")[1]
    assert LEFT_OUT not in batch("axes: {x: [1, 2, 4]}\n")[1]
    assert kept(place) == []


def test_runs_that_another_grid_has_are_not_left_out(place, three, batch, call):
    assert batch("axes: {x: [1, 2]}\n", name="h")[0] == 0
    assert LEFT_OUT not in batch("axes: {x: [1]}\n")[1]
    assert "belong to no grid" not in call("status", place.folder)[1]
    # Its plan is kept all the same: the other grid may go, too.
    assert len(kept(place)) == 1


@pytest.mark.faults
def test_a_batch_is_joined_with_its_own_plan_only(place, three, batch):
    claim = place.claim("grid.g", "s")
    before = (place.folder / "grids" / "g" / "plan.json").read_bytes()
    code, said = batch("axes: {x: [1, 9]}\n", "--join")
    assert code == 2
    assert "`--join` must be given with the plan that the other batch works on, got another one: 1 of its 2" in said
    assert (place.folder / "grids" / "g" / "plan.json").read_bytes() == before
    assert batch("axes: {x: [3, 2, 1]}\nlimits: {attempts: 2}\n", "--join")[0] == 0
    # Without it, the other batch is the reason.
    code, said = batch("axes: {x: [1]}\n")
    assert (code, LEFT_OUT in said) == (5, False)
    claim.release()


def test_jobs_that_start_together_wait_for_the_plan_that_one_of_them_writes(place, make_test_plan):
    old, new = (make_test_plan(f"axes: {{x: {values}}}\n") for values in ("[1, 2]", "[1, 9]"))
    keep_plan(place, old)
    claim = place.claim("grid.g", "s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earlier.time, "sleep", lambda _: keep_plan(place, new))
        assert earlier.compare_with_earlier(new, place, join=True) == ""
    claim.release()


def test_jobs_that_share_a_new_plan_replace_one_that_nobody_works_on(place, three, batch):
    code, said = batch("axes: {x: [2]}\n", "--join")
    assert (code, f"1 {LEFT_OUT}" in said) == (0, True)


@pytest.mark.faults
@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": 3}'])
def test_an_earlier_plan_that_is_none_is_replaced(place, three, batch, text):
    (place.folder / "grids" / "g" / "plan.json").write_text(text)
    assert batch("axes: {x: [1]}\n")[0] == 0
    assert kept(place) == []


@pytest.mark.faults
@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"grid": "h"}'])
def test_the_plan_of_another_grid_that_cannot_be_read_keeps_nobody_from_work(place, three, batch, text):
    (place.folder / "grids" / "h").mkdir()
    (place.folder / "grids" / "h" / "plan.json").write_text(text)
    code, said = batch("axes: {x: [1]}\n")
    assert (code, f"1 {LEFT_OUT}" in said) == (0, True)


def test_an_edit_of_the_sources_names_other_runs_which_is_said_too(place, tmp_path, call):
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\n", "import helper\n")
    helper = path.parent / "helper.py"
    helper.write_text("value = 1\n")
    plan = make_plan(load_grid(path))
    keep_plan(place, plan)
    publish(place, plan, plan.runs[0])
    helper.write_text("value = 2\n")
    again = make_plan(load_grid(path))
    publish(place, again, again.runs[0])
    code, said = call("batch", path, "--out", place.folder, "--scheduler", "sequential")
    assert (code, f"1 {LEFT_OUT}" in said) == (0, True)
