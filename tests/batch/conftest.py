"""Grids, plans and places for the tests of batches."""

import pytest
from batch.cases import write_grid
from batch.world import Bench

from lt_lib.batch.grid import load_grid
from lt_lib.batch.place import Place
from lt_lib.batch.plan import make_plan


@pytest.fixture
def make_grid(tmp_path):
    """Loads a grid of the given text and cells."""
    return lambda text, *cells, **options: load_grid(write_grid(tmp_path / "grid", text, *cells, **options))


@pytest.fixture
def make_test_plan(make_grid):
    """Plans a grid of the given text and cells."""
    return lambda text, *cells, **options: make_plan(make_grid(text, *cells, **options))


@pytest.fixture
def place(tmp_path):
    """An empty place."""
    place = Place(tmp_path / "place")
    place.open()
    return place


@pytest.fixture
def bench(tmp_path):
    """Calls of `lt-lib` in a world of their own."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
