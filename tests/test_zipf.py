"""Counting words by rank."""

import json

import numpy as np
import pytest

from lt_lib import data
from lt_lib.data.base import Dataset, Split
from tools import zipf


@pytest.fixture
def reviews(monkeypatch):
    """A stand-in for the reviews: three texts."""
    texts = Split(["The film. <br /><br />The END!", "the film isn't"], np.zeros(2, dtype=np.int64))
    other = Split(["It's a film"], np.zeros(1, dtype=np.int64))
    stand_in = Dataset("imdb", texts, other, 2, ("neg", "pos"))
    monkeypatch.setattr(data, "load", lambda name, root=None: stand_in)


def test_words_are_lower_case_without_markup():
    counted = zipf.count_words(["A<br />b a'b 'a' b2"])
    assert counted == {"a": 2, "b": 2, "a'b": 1}


def test_ranks_are_by_count_then_alphabet():
    assert zipf.ranked(zipf.count_words(["b a c c"]), 3) == [(1, "c", 2), (2, "a", 1), (3, "b", 1)]


@pytest.mark.parametrize("ranks", [0, 4])
def test_too_many_ranks_are_refused(ranks):
    with pytest.raises(ValueError, match="`ranks` must be between 1 and 3"):
        zipf.ranked(zipf.count_words(["a b c"]), ranks)


def test_table_and_provenance_are_written(tmp_path, reviews):
    out = tmp_path / "results" / "imdb-zipf.csv"
    assert zipf.main(["--root", str(tmp_path), "--out", str(out), "--ranks", "2"]) == 0
    assert out.read_text() == "rank,word,count\n1,film,3\n2,the,3\n"
    provenance = json.loads(out.with_suffix(".json").read_text())
    assert (provenance["reviews"], provenance["tokens"], provenance["distinct_words"]) == (3, 10, 6)
    assert sorted(path.name for path in out.parent.iterdir()) == ["imdb-zipf.csv", "imdb-zipf.json"]


def test_missing_reviews_are_named(tmp_path, capsys):
    assert zipf.main(["--root", str(tmp_path), "--out", str(tmp_path / "x.csv")]) == 2
    assert "imdb" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_the_stored_table_belongs_to_its_provenance(repository):
    rows = np.loadtxt(repository / "results" / "imdb-zipf.csv", delimiter=",", skiprows=1, usecols=(0, 2))
    provenance = json.loads((repository / "results" / "imdb-zipf.json").read_text())
    assert len(rows) == provenance["ranks_kept"] == zipf.RANKS
    assert (rows[:, 0] == np.arange(1, len(rows) + 1)).all()
    assert (np.diff(rows[:, 1]) <= 0).all()
    assert rows[:, 1].sum() < provenance["tokens"]
