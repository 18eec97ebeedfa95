"""A mirror is compared with its store: two machines see the same runs, pins and plans, and see them whole."""

import json

import pytest
from batch.cases import RESULT, keep_plan, publish, write_grid
from batch.s3_server import ADDRESS

from lt_lib.batch import doctor, object_place
from lt_lib.batch.grid import load_grid
from lt_lib.batch.object_place import ObjectPlace
from lt_lib.batch.place import DamagedPin
from lt_lib.batch.plan import make_plan, write_pin
from lt_lib.batch.states import survey
from lt_lib.batch.tables import collect

pytestmark = pytest.mark.faults


@pytest.fixture
def plan(places, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    keep_plan(places[0], plan)
    publish(places[0], plan, plan.runs[0], {"row": {"accuracy_last": 0.1}})
    return plan


def accuracy(place):
    return [row["accuracy_last"] for row in collect(place).rows]


def states(place):
    (plan,) = place.plans()
    return [(state.state, state.reason) for state in survey(place, plan)]


def replace(place, plan, value):
    """What a batch does with a damaged run: the same identity gets other files."""
    place.quarantine(plan.runs[0].id, "why")
    publish(place, plan, plan.runs[0], {"row": {"accuracy_last": value}})


def test_a_run_that_was_repeated_elsewhere_is_fetched_again(places, plan):
    one, two = places
    assert [accuracy(place) for place in places] == [[0.1], [0.1]]
    replace(one, plan, 0.9)
    assert [accuracy(ObjectPlace(ADDRESS, place.folder)) for place in places] == [[0.9], [0.9]]
    assert one.manifest(plan.runs[0].id) == two.manifest(plan.runs[0].id, contents=True)


def test_a_listing_of_a_moment_ago_makes_no_damage_of_a_run_that_was_repeated_since(places, plan, monkeypatch):
    one, two = places
    monkeypatch.setattr("lt_lib.batch.object_place._LIST_SECONDS", 1e9)
    assert accuracy(two) == [0.1]
    replace(one, plan, 0.9)
    monkeypatch.setattr(two, "_mirrored_tag", lambda run: "another")  # so that it is fetched under the old listing
    assert states(two) == [("done", "")]
    assert accuracy(two) == [0.9]


def test_a_run_that_was_moved_away_since_it_was_listed_is_gone(places, plan, monkeypatch):
    one, two = places
    monkeypatch.setattr("lt_lib.batch.object_place._LIST_SECONDS", 1e9)
    assert two.published() == [plan.runs[0].id]
    one.quarantine(plan.runs[0].id, "why")
    assert two.manifest(plan.runs[0].id) is None
    assert two.published() == []


def test_what_has_not_changed_is_fetched_once(places, plan, monkeypatch):
    one, two = places
    assert accuracy(two) == [0.1]
    for place in places:
        monkeypatch.setattr(place, "_fetch", lambda *arguments: pytest.fail("was fetched again"))
        assert accuracy(place) == [0.1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "out/result.json is missing"), (b"{}", "out/result.json has 2 bytes instead of 31")],
    ids=["deleted", "cut"],
)
def test_an_object_that_is_missing_or_cut_is_noticed_on_every_machine(places, plan, server, content, reason):
    assert [states(place) for place in places] == [[("done", "")]] * 2
    (key,) = [name for name in server.names() if name.endswith("out/result.json")]
    if content is None:
        server.delete(key)
    else:
        server.put(key, content)
    machines = [*(place.folder for place in places), places[0].folder.with_name("three")]
    assert [states(ObjectPlace(ADDRESS, folder)) for folder in machines] == [[("damaged", reason)]] * 3


def test_a_manifest_that_was_edited_in_the_store_is_damage_on_every_machine(places, plan, server):
    assert [states(place) for place in places] == [[("done", "")]] * 2
    key = f"some/place/runs/{plan.runs[0].id}/manifest.json"
    server.put(key, server.get(key).replace(b'"x": 1.0', b'"x": 2.0'))
    for place in places:
        ((state, reason),) = states(ObjectPlace(ADDRESS, place.folder))
        assert (state, reason.partition(":")[0]) == ("damaged", "manifest.json was edited")


@pytest.fixture
def pinned(server, tmp_path):
    """A plan with a module of its own."""
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\n", "import helper\n", RESULT)
    (path.parent / "helper.py").write_text("value = 1\n")
    return make_plan(load_grid(path))


def save(place, plan):
    return place.save_pin(plan.pin, lambda target: write_pin(plan, target))


def damage(place, plan):
    """Let a machine have uploaded a pin that is not whole."""
    helper = place.folder / "pins" / plan.pin / "modules" / "helper.py"
    helper.write_text("")
    return object_place._packed(helper.parents[1])


@pytest.mark.parametrize("kind", ["content", "cut"])
def test_a_damaged_pin_in_the_store_is_named_refused_by_workers_and_replaced_by_the_next_batch(
    places, pinned, server, call, kind
):
    one, two = places
    keep_plan(one, pinned)
    save(one, pinned)
    key = f"some/place/pins/{pinned.pin}.tar.gz"
    good = server.get(key)
    server.put(key, damage(one, pinned) if kind == "content" else good[: len(good) // 2])
    code, said = call("verify", ADDRESS)
    assert (code, f"pin {pinned.pin}: it" in said) == (1, True)
    with pytest.raises(DamagedPin, match=f"pin {pinned.pin}: it"):
        two.pin_folder(pinned.pin)
    save(one, pinned)
    assert call("verify", ADDRESS)[0] == 0
    assert (two.pin_folder(pinned.pin) / "modules" / "helper.py").read_text() == "value = 1\n"
    assert [name for name in server.names() if f"/quarantine/{pinned.pin}-" in name]


def test_a_damaged_pin_in_the_mirror_of_a_worker_is_fetched_again(places, pinned):
    one, two = places
    save(one, pinned)
    helper = two.pin_folder(pinned.pin) / "modules" / "helper.py"
    helper.write_text("")
    assert (two.pin_folder(pinned.pin) / "modules" / "helper.py").read_text() == "value = 1\n"


def test_verify_moves_a_damaged_pin_away_in_the_store(places, pinned, server, call):
    keep_plan(places[0], pinned)
    save(places[0], pinned)
    server.put(f"some/place/pins/{pinned.pin}.tar.gz", b"")
    code, said = call("verify", ADDRESS, "--quarantine")
    assert (code, f"moved to {ADDRESS}/quarantine/{pinned.pin}-" in said) == (1, True)
    assert call("verify", ADDRESS)[0] == 0


def test_what_python_compiled_does_not_travel(places, pinned, server):
    folder = save(places[0], pinned)
    (folder / "modules" / "__pycache__").mkdir()
    server.delete(f"some/place/pins/{pinned.pin}.tar.gz")
    assert save(places[0], pinned) == folder
    assert not (places[1].pin_folder(pinned.pin) / "modules" / "__pycache__").exists()


def test_an_earlier_plan_with_finished_runs_is_kept_in_the_store_whoever_replaces_it(
    places, plan, server, make_test_plan
):
    before = server.get("some/place/grids/g/plan.json")
    keep_plan(places[1], make_test_plan("axes: {x: [2]}\n"))
    (kept,) = [name for name in server.names() if "/grids/g/plan-" in name]
    assert server.get(kept) == before
    assert len(places[0].plans()) == 1


def test_the_doctor_makes_reads_and_deletes_an_object(server, call, monkeypatch):
    monkeypatch.setattr(doctor, "_trial", lambda: {"kind": "done"})
    code, said = call("doctor", ADDRESS)
    assert (code, f"ok  place: {ADDRESS} can be written" in said) == (0, True)
    assert server.names() == []
    server.refuses = True
    code, said = call("doctor", ADDRESS)
    (line,) = [line for line in said.splitlines() if line.startswith("BAD")]
    assert code == 1
    assert f"place: {ADDRESS} cannot be written: " in line
    assert "403" in line
    assert "Debug source" not in said


def test_the_doctor_sees_a_store_that_keeps_nothing(server, call, monkeypatch):
    monkeypatch.setattr(doctor, "_trial", lambda: {"kind": "done"})
    monkeypatch.setattr(ObjectPlace, "_names", lambda self, prefix: [])
    code, said = call("doctor", ADDRESS)
    assert (code, "an object that was just made is not there" in said) == (1, True)


def test_runs_in_no_grid_are_counted_in_the_store(places, plan, call, make_test_plan):
    keep_plan(places[0], make_test_plan("axes: {x: [2]}\n"))
    assert json.loads(call("status", ADDRESS, "--json")[1])["in_no_grid"] == 1
