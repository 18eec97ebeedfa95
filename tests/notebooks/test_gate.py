"""The gate that holds stored notebooks: it passes a good fixture and fails each damaged copy of it."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from tools import check, execute, notebooks
from tools.canonical import write_canonical
from tools.execute import SANITIZE

GOOD = Path(__file__).parent / "fixtures" / "good.ipynb"


def cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def strip_counts(nb):
    for cell in cells(nb):
        cell.update(execution_count=None, outputs=[])


def tag_wrongly(nb):
    cells(nb)[1].metadata.tags = ["nbval_ignore_output"]


def count_out_of_order(nb):
    cells(nb)[1].execution_count, cells(nb)[2].execution_count = 3, 2


def write_a_wrong_number(nb):
    cells(nb)[1].outputs[0].text = cells(nb)[1].outputs[0].text.replace("0.352", "0.353")


def write_a_wrong_result(nb):
    cells(nb)[3].outputs[0].data["text/plain"] = "np.float64(1.305)"


def swap_the_data_of_the_figure(nb):
    # The sentence and the picture stay; only the data drawn are in another order.
    cells(nb)[2].source = cells(nb)[2].source.replace('"value": values}', '"value": values[::-1]}')
    assert "[::-1]" in cells(nb)[2].source


@pytest.fixture
def damaged(tmp_path):
    """Copies of the good fixture, each with one fault, written in canonical form so that nothing else is wrong."""

    def write(damage) -> Path:
        nb = nbformat.read(GOOD, as_version=4)
        damage(nb)
        path = tmp_path / f"{damage.__name__}.ipynb"
        write_canonical(nb, path)
        return path

    return write


@pytest.mark.parametrize("damage", [strip_counts, tag_wrongly, count_out_of_order])
def test_rules_fail_before_a_kernel_starts(damaged, damage, monkeypatch, capsys):
    monkeypatch.setattr(execute, "compare", None)
    path = damaged(damage)
    assert notebooks.main(["gate", str(path)]) == 1
    assert f"{path.name}: " in capsys.readouterr().out


def test_a_fresh_run_fails_each_cell_that_it_does_not_reproduce_and_no_other(damaged):
    def all_three(nb):
        # In three cells of which none feeds another's output, so that each must be found by itself.
        write_a_wrong_number(nb)
        swap_the_data_of_the_figure(nb)
        write_a_wrong_result(nb)

    path = damaged(all_three)
    assert check.problems(path) == []
    done = execute.compare([path, GOOD], workers=0, options=("-rfp", "--color=no"), capture=True)
    assert done.returncode == 1, done.stdout + done.stderr
    summary = done.stdout[done.stdout.index("short test summary") :]
    assert re.findall(r"^FAILED (.*)::Cell (\d)", summary, flags=re.MULTILINE) == [("", "1"), ("", "2"), ("", "3")]
    good = GOOD.relative_to(execute.ROOT).as_posix()
    assert re.findall(r"^PASSED (.*)::Cell (\d)", summary, flags=re.MULTILINE) == [
        ("", "0"),
        *((good, str(index)) for index in range(4)),
    ]
    for seen in ("mean 0.353", "(data ", "1.305"):
        assert seen in done.stdout


def test_the_exit_code_of_the_comparison_is_that_of_the_gate(monkeypatch, capsys):
    calls = []

    def compare(paths, workers):
        calls.append((paths, workers))
        return subprocess.CompletedProcess([], 5)

    monkeypatch.setattr(execute, "compare", compare)
    assert notebooks.main(["gate", "--workers", "3", str(GOOD)]) == 5
    assert calls == [([GOOD], 3)]
    assert "1 notebooks keep the rules" in capsys.readouterr().out
    assert notebooks.main(["gate", "--workers", "-3", str(GOOD)]) == 2
    assert "`workers` must be an integer of at least 1, got -3" in capsys.readouterr().err


# The sanitise file


def rules() -> list[tuple[str, str]]:
    """The rules as nbval reads them: pairs of neighbouring lines."""
    return re.findall("^regex: (.*)$\n^replace: (.*)$", SANITIZE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def sanitise(text: str) -> str:
    for pattern, replacement in rules():
        text = re.sub(pattern, replacement, text)
    return text


def test_every_written_rule_is_read_and_there_are_few():
    text = SANITIZE.read_text(encoding="utf-8")
    assert len(rules()) == text.count("regex:") == text.count("replace:") <= 8
    for pattern, replacement in rules():
        re.compile(pattern)
        assert replacement.strip(), f"an empty replacement is lost with its trailing blank: {pattern}"


def test_nbval_itself_reads_the_same_rules():
    from nbval.plugin import get_sanitize_patterns

    assert list(get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8"))) == rules()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<object at 0x7f1234abcd>", "<object at 0x55aa00ff00>"),
        ("[time 1.5 s]", "[time 20 ms]"),
        ("[speed-up 51.3 x]", "[speed-up 1,200×]"),
        ("device: cpu (2 threads)", "device: cuda:0"),
        ("wrote /a/b/figures/x.svg", "wrote /c/figures/x.svg"),
    ],
)
def test_what_depends_on_the_machine_is_equal_after_sanitising(one, other):
    assert one != other
    assert sanitise(one) == sanitise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("accuracy 0.351", "accuracy 0.352"),
        ("12 s", "13 s"),
        ("time 1.5", "time 1.6"),
        ("0x12", "0x13"),
        ("1.2 x faster", "1.3 x faster"),
        ("the device: cpu", "the device: gpu"),
        ("figures/a.svg", "figures/b.svg"),
        ("[fig] A. (data 0123456789ab)", "[fig] A. (data 1123456789ab)"),
    ],
)
def test_numbers_and_digests_stay_apart(one, other):
    assert sanitise(one) != sanitise(other)
