import os
import runpy
import subprocess
import sys
from importlib.metadata import version

import pytest

from lt_lib import cli, data, training
from lt_lib.data import CheckReport


def test_list_shows_every_data_set(capsys):
    assert cli.main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*data.names(), *data.extra_names(), *data.image_file_names()]
    assert lines[0].split()[1] == "embedded"
    assert any(line.startswith("svhn ") and " missing " in line for line in lines)


def test_list_looks_below_the_root(tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(data, "overview", lambda root: seen.append(root) or [("a", "yours", "text")])
    assert cli.main(["data", "list", "--root", str(tmp_path)]) == 0
    assert cli.main(["data", "list"]) == 0
    assert seen == [str(tmp_path), None]
    assert capsys.readouterr().out.splitlines()[0] == "a  yours     text"


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("missing", 1), ("damaged", 1)])
def test_check_reports_and_sets_the_exit_status(capsys, monkeypatch, status, code):
    seen = []
    monkeypatch.setattr(
        data, "check", lambda name, root: seen.append((name, root)) or CheckReport(name, status, ("one", "two"))
    )
    assert cli.main(["data", "check", "svhn", "--root", "there"]) == code
    assert seen == [("svhn", "there")]
    assert capsys.readouterr().out == f"svhn: {status}\n  one\n  two\n"


def test_check_of_the_embedded_digits():
    assert cli.main(["data", "check", "digits"]) == 0


def test_check_of_a_missing_set_says_how_to_get_it(capsys, tmp_path):
    assert cli.main(["data", "check", "cifar10", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("cifar10: missing\n")
    assert str(tmp_path) in out


def test_get_downloads_and_counts(capsys, monkeypatch):
    seen, real = [], data.load
    monkeypatch.setattr(
        data, "load", lambda name, root, download: seen.append((name, root, download)) or real("digits")
    )
    assert cli.main(["data", "get", "cifar10"]) == 0
    assert seen == [("cifar10", None, True)]
    out = capsys.readouterr().out
    assert out.startswith("cifar10: ")
    assert out.rstrip().endswith("test samples, 10 classes")


def test_get_writes_the_made_up_images(capsys, tmp_path):
    assert cli.main(["data", "get", "made_up", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"made_up: written into {tmp_path}\n"
    assert cli.main(["data", "check", "made_up", "--root", str(tmp_path)]) == 0


def test_get_of_images_that_no_word_fetches_says_what_is_missing(capsys, tmp_path):
    assert cli.main(["data", "get", "inaturalist", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("inaturalist: missing\n")
    assert "train2018.json" in out


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"lt-lib {version('lt-lib')}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["data list", "batch notebooks/grids/smoke.yaml --dry-run --out"])
def test_a_reader_that_has_enough_is_no_error(repository, tmp_path, words, unbuffered):
    # As `lt-lib data list | head -1`, with the reading end closed before anything is written.
    read, write = os.pipe()
    os.close(read)
    words = [*words.split(), *([str(tmp_path / "place")] if words.endswith("--out") else [])]
    done = subprocess.run(
        [sys.executable, "-m", "lt_lib", *words],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        cwd=repository,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_an_error(capfd, monkeypatch):
    def fail(*_arguments, **_options):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(data, "load", fail)
    assert cli.main(["data", "get", "svhn"]) == 1
    assert capfd.readouterr().err == "lt-lib: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (data.MissingDataError("not there"), 1),
        (OSError("no network"), 1),
        (training.NonFiniteLossError(0, 3, [7]), 1),
        (ValueError("wrong"), 2),
    ],
)
def test_errors_are_words_on_stderr_and_not_tracebacks(capsys, monkeypatch, error, code):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(data, "load", fail)
    assert cli.main(["data", "get", "svhn"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"lt-lib: {error}\n"


def test_an_unknown_data_set_brings_the_nearest_names(capsys):
    assert cli.main(["data", "check", "cifar11"]) == 2
    err = capsys.readouterr().err
    assert "`name` must be one of" in err
    assert "Did you mean 'cifar10'" in err


WRONG_USE = "|data|data get|data steal digits|data list -x|claims --id x"


@pytest.mark.parametrize("words", WRONG_USE.split("|"))
def test_wrong_use_shows_the_usage(capsys, words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words.split())
    assert stopped.value.code == 2
    assert "usage: lt-lib" in capsys.readouterr().err


def test_claims_are_printed_and_written(capsys, tmp_path):
    # Row 4 is refuted, which is a finding and no failure.
    assert cli.main(["claims", "--id", "62", "--id", "4", "--workers", "1", "--out", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert "refuted" in out
    assert "claims: 1 refuted, 1 holds\n" in out
    assert "explained: row 4 by notebook 010, row 62 by notebook 010" in out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["claims.csv", "claims.json", "claims.md"]
    assert (tmp_path / "new" / "claims.csv").read_text().splitlines()[1].startswith("4,S0 L66,E,quick,refuted,0.645,")


def test_an_output_folder_that_cannot_be_is_refused_at_once(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["claims", "--id", "62", "--workers", "1", "--out", str(tmp_path / "file")]) == 2
    shown = capsys.readouterr()
    assert "`out` must be a folder" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("before", ["0,1", None])
def test_claims_are_judged_without_gpus(monkeypatch, before):
    from lt_lib.claims import judging

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    seen = []
    monkeypatch.setattr(judging, "judge_rows", lambda *_, **__: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]) or [])
    assert cli.main(["claims", "--id", "62"]) == 0
    assert seen == [""]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_a_package_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch, capsys):
    # None in this table is how Python itself says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert cli.main(["data", "check", "digits"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lt-lib: this command needs sklearn")
    assert "pip install 'lt-lib[train," in error


def test_what_the_library_says_of_a_missing_extra_stands_and_a_fault_of_its_own_is_no_extra(monkeypatch, capsys):
    def fail(error):
        def overview(_root):
            raise error

        monkeypatch.setattr(data, "overview", overview)
        return cli.main(["data", "list"])

    assert fail(ModuleNotFoundError("Grids need the extra `batch`.")) == 2
    assert capsys.readouterr().err == "lt-lib: Grids need the extra `batch`.\n"
    with pytest.raises(ModuleNotFoundError, match="no such part"):
        fail(ModuleNotFoundError("no such part", name="lt_lib.nothing"))


def test_claims_of_another_profile_are_not_judged(capsys):
    assert cli.main(["claims", "--id", "66", "--profile", "paper", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "66  not judged" in out
    assert "needs profile quick, this is" in out


def test_at_small_the_rows_that_measured_runs_judge_are_taken_and_no_errata(capsys, monkeypatch, tmp_path):
    from lt_lib.claims import ledger

    asked = []
    monkeypatch.setattr(ledger, "recorded", lambda: asked.append("small") or (ledger.row(5),))
    assert cli.main(["claims", "--profile", "small", "--workers", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert asked == ["small"]
    assert "errata" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims.csv", "claims.json", "claims.md"]
    assert (tmp_path / "claims.csv").read_text().splitlines()[1].startswith("5,S0 L74-99,E,small,")


def test_the_whole_ledger_brings_the_errata(capsys, monkeypatch, tmp_path):
    from lt_lib.claims import errata, judging, ledger

    one, subjects = ledger.row(62), [errata.erratum("E11")]
    monkeypatch.setattr(ledger, "ledger", lambda: (one,))
    real = judging.judge_errata
    monkeypatch.setattr(judging, "judge_errata", lambda *given, **options: real(*given, **options, subjects=subjects))
    assert cli.main(["claims", "--workers", "1", "--out", str(tmp_path)]) == 0
    assert "errata: 1 holds" in capsys.readouterr().out
    assert (tmp_path / "errata.csv").read_text().splitlines()[1].startswith("E11,S0 L350,W,quick,holds,0.205,")


def test_a_broken_check_sets_the_exit_status(capsys, monkeypatch):
    from lt_lib.claims import judging, ledger

    broken = judging.Outcome(ledger.row(62), "quick", None, "", "Traceback\nValueError: no\n")
    monkeypatch.setattr(judging, "judge_rows", lambda *_given, **_options: iter([broken]))
    assert cli.main(["claims", "--id", "62"]) == 1
    assert "row 62 is broken:\nTraceback" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--id", "140"], "Nearest: 137, 138, 139."),
        (["--id", "62", "--profile", "quik"], "Did you mean 'quick'?"),
        (["--id", "62", "--workers", "0"], "`workers` must be"),
    ],
)
def test_wrong_claims_options_are_explained(capsys, words, message):
    assert cli.main(["claims", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_the_module_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lt-lib", "data", "list"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("lt_lib", run_name="__main__")
    assert stopped.value.code == 0
    assert "digits" in capsys.readouterr().out
