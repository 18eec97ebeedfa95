"""A place in an object store, on moto's S3 server: the manifest is created once, and all follow it."""

import json
import threading

import pytest
from batch.cases import RESULT, fail, keep_plan, publish, write_grid
from batch.s3_server import ADDRESS

from lt_lib.batch import object_place
from lt_lib.batch.object_place import ObjectPlace, open_place
from lt_lib.batch.place import DamagedRun, Place, storage_problem
from lt_lib.batch.states import survey
from lt_lib.batch.tables import collect, csv_text
from lt_lib.cli import main


def test_an_address_opens_a_store_and_a_path_a_folder(server, tmp_path):
    assert type(open_place(str(tmp_path))) is Place
    place = open_place(ADDRESS)
    assert (type(place), place.location) == (ObjectPlace, ADDRESS)
    assert (Place(tmp_path).shares_work, place.shares_work) == (True, False)
    assert not place.is_open
    with pytest.raises(ValueError, match="`place` must be a folder or an address"):
        open_place("what://bucket")
    with pytest.raises(ValueError, match="`place` must be a place that `lt-lib batch` has written to"):
        place.plans()


def test_a_run_is_published_once_and_seen_from_everywhere(places, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2]}\n")
    run = plan.runs[0]
    first, second = places
    keep_plan(first, plan)
    publish(first, plan, run, {"row": {"accuracy_last": 0.5}})
    assert second.manifest(run.id, run.digest, contents=True)["seconds"] == 2.0
    assert json.loads((second.run_folder(run.id) / "out" / "result.json").read_text())["row"] == {"accuracy_last": 0.5}
    late = second.new_attempt(run.id)
    (late / "manifest.json").write_text((first.run_folder(run.id) / "manifest.json").read_text())
    (late / "notebook.ipynb").write_text("late")
    (late / "out" / "result.json").write_text("late")
    assert not second.publish(run.id, late)
    assert [place.published() for place in places] == [[run.id]] * 2
    assert [state.state for state in survey(second, second.plans()[0])] == ["done", "pending"]
    assert csv_text(collect(first)) == csv_text(collect(second))


def test_a_plan_that_cannot_be_read_is_named(places, server, make_test_plan):
    keep_plan(places[0], make_test_plan("axes: {x: [1]}\n"))
    server.put("some/place/grids/g/plan.json", b"")
    with pytest.raises(ValueError, match=f"`place` must hold readable plans, got '{ADDRESS}/grids/g/plan.json': "):
        places[1].plans()


def test_files_without_a_manifest_are_no_run(places, server, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    run = plan.runs[0]
    server.put(f"some/place/runs/{run.id}/token/notebook.ipynb", b"half")
    assert places[0].manifest(run.id) is None
    assert places[0].published() == []


@pytest.mark.faults
def test_of_many_that_create_or_replace_an_object_at_once_one_wins(server, tmp_path):
    places = [ObjectPlace(ADDRESS, tmp_path / str(number)) for number in range(6)]

    def winners(act):
        won, barrier = [], threading.Barrier(len(places))

        def race(place):
            barrier.wait()
            if act(place):
                won.append(place)

        threads = [threading.Thread(target=race, args=(place,)) for place in places]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(won)

    for number in range(3):
        assert winners(lambda place, number=number: place._create(f"runs/{number}/manifest.json", b"m")) == 1
        assert winners(lambda place, number=number: place.claim(f"new{number}", "s")) == 1
        places[0].claim(f"old{number}", "s")
        key = f"some/place/claims/old{number}.json"
        server.put(key, json.dumps(json.loads(server.get(key)) | {"mark": "1"}).encode())
        assert winners(lambda place, number=number: place.claim(f"old{number}", "s")) == 1


@pytest.mark.faults
def test_damage_is_seen_by_a_look_at_the_contents_and_moved_away(places, server, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    run = plan.runs[0]
    first, second = places
    publish(first, plan, run, {"a": 1})
    key = next(name for name in server.names() if name.endswith("result.json"))
    server.put(key, b'{"a": 2}')
    with pytest.raises(DamagedRun, match="out/result.json has changed since it was published"):
        first.manifest(run.id, contents=True)
    server.delete(key)
    with pytest.raises(DamagedRun, match="out/result.json is missing"):
        second.manifest(run.id)
    assert second.quarantine(run.id, "why") is not None
    assert second.quarantine(run.id, "why") is None
    assert [place.published() for place in places] == [[], []]
    assert first.manifest(run.id) is None


@pytest.mark.faults
def test_a_claim_has_one_holder_and_a_dead_one_is_replaced_by_one(places, server):
    first, second = places
    claim = first.claim("a", "s")
    assert second.claim("a", "s") is None
    assert claim.beat()
    claim.release()
    assert second.claims() == []

    claim = first.claim("a", "s")
    key = "some/place/claims/a.json"
    content = json.loads(server.get(key))
    server.put(key, json.dumps(content | {"mark": "1", "token": "old"}).encode())
    seen = second.holder("a")
    assert not seen["alive"]
    winner = first.claim("a", "s")
    assert winner is not None
    # Who judged the same dead claim a moment earlier comes too late.
    second.holder = lambda name: seen
    assert second.claim("a", "s") is None
    assert winner.beat()
    assert not claim.beat()
    claim.release()  # no longer ours to give back
    assert winner.beat()


@pytest.mark.faults
def test_a_store_that_fails_takes_no_claim_away(places, server):
    claim = places[0].claim("a", "s")
    server.refuses = True
    with pytest.raises(Exception, match="403") as caught:
        claim.beat()
    assert storage_problem(caught.value)
    claim.release()  # nor is that a fault of the run
    server.refuses = False
    assert claim.beat()
    server.delete("some/place/claims/a.json")
    assert not claim.beat()


@pytest.mark.faults
def test_a_claim_that_is_taken_over_during_a_beat_is_lost(places, server, monkeypatch):
    claim, key = places[0].claim("a", "s"), "some/place/claims/a.json"
    read = object_place._read

    def lose_after_reading(*arguments):
        found = read(*arguments)
        server.put(key, b'{"token": "new"}')
        return found

    monkeypatch.setattr(object_place, "_read", lose_after_reading)
    assert not claim.beat()
    assert server.get(key) == b'{"token": "new"}'


@pytest.mark.faults
def test_on_another_machine_the_age_of_the_last_beat_decides(places, server):
    claim = places[0].claim("a", "s")
    key = "some/place/claims/a.json"
    server.put(key, json.dumps(json.loads(server.get(key)) | {"host": "elsewhere"}).encode())
    assert places[1].holder("a")["alive"]
    server.make_older(key, 1000)
    assert not places[1].holder("a")["alive"]
    assert claim.token == places[1].holder("a")["token"]


def test_failures_and_their_pardon_are_shared(places, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    first, second = places
    keep_plan(first, plan)
    fail(first, plan.runs[0], "notebook-error")
    assert [state.state for state in survey(second, first.plans()[0])] == ["failed"]
    assert second.forget_failures(plan.runs[0].id)
    assert [state.state for state in survey(first, first.plans()[0])] == ["pending"]


def test_a_stop_mark_is_seen_from_elsewhere(places):
    first, second = places
    assert not first.stop_mark("s").exists()
    first.stop_mark("s").touch()
    assert second.stop_mark("s").exists()
    first.stop_mark("s").unlink()
    assert not second.stop_mark("s").exists()


def test_a_batch_runs_into_a_store_and_is_done_for_another_machine(server, tmp_path, monkeypatch, capsys):
    path = write_grid(tmp_path, "axes: {x: [1]}\n", "import helper\n", RESULT)
    (tmp_path / "helper.py").write_text("")
    words = ["batch", str(path), "--out", ADDRESS, "--scheduler", "sequential"]
    assert main(words) == 0, capsys.readouterr()
    assert not [name for name in server.names() if "/claims/" in name or "/attempts/" in name]
    monkeypatch.setenv("LT_MIRROR", str(tmp_path / "elsewhere"))
    capsys.readouterr()
    assert main(words) == 0
    assert "0 done, 1 were done before" in capsys.readouterr().out
    for command in (["status"], ["verify"], ["collect", "-o", str(tmp_path / "t.csv")]):
        assert main([command[0], ADDRESS, *command[1:]]) == 0
    assert "accuracy_last" in (tmp_path / "t.csv").read_text()
    # The copy of the sources travels too.
    assert (ObjectPlace(ADDRESS, tmp_path / "third").pin_folder(_pin(server)) / "modules" / "helper.py").is_file()


def _pin(server):
    (name,) = [name for name in server.names() if "/pins/" in name]
    return name.rpartition("/")[2].removesuffix(".tar.gz")


def test_a_store_that_fails_is_a_fault_of_the_place(server, tmp_path, capsys):
    path = write_grid(tmp_path, "axes: {x: [1]}\n")
    server.refuses = True
    assert main(["batch", str(path), "--out", ADDRESS, "--scheduler", "sequential"]) == 4
    assert "403" in capsys.readouterr().err
    assert not storage_problem(RuntimeError("no"))
