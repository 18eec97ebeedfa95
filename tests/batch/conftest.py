"""Grids, plans and places for the tests of batches."""

import pytest
from batch.cases import write_grid
from batch.world import Bench

from lt_lib.batch.grid import load_grid
from lt_lib.batch.object_place import ObjectPlace
from lt_lib.batch.place import Place
from lt_lib.batch.plan import make_plan
from lt_lib.cli import main


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
def server(monkeypatch, tmp_path):
    """An S3 server on this machine, which addresses in this process lead to."""
    from batch.s3_server import s3_server  # loads moto, which most tests do without

    with s3_server("bucket") as server:
        settings = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "LT_MIRROR": str(tmp_path / "mirror"),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def places(server, tmp_path):
    """The same place in the store seen from two machines."""
    from batch.s3_server import ADDRESS

    return [ObjectPlace(ADDRESS, tmp_path / name) for name in ("one", "two")]


@pytest.fixture
def call(capsys):
    """Calls `lt-lib` in this process; its exit status and all that it said."""

    def call(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def bench(tmp_path):
    """Calls of `lt-lib` in a world of their own."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
