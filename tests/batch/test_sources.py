"""Which files a notebook depends on, and what that does to the identity of its runs."""

import json
import shutil

import pytest
from batch.cases import PARAMETERS, RESULT, write_grid, write_notebook

from lt_lib.batch.grid import load_grid
from lt_lib.batch.notebook import load_notebook
from lt_lib.batch.plan import PACKAGE, make_plan, write_pin
from lt_lib.batch.sources import digest_files, find_sources


@pytest.fixture
def package(tmp_path):
    """A package with a lazy top, two branches, data, and modules beside a notebook."""
    files = {
        "lib/pkg/__init__.py": "import importlib\ndef __getattr__(name):\n    return importlib.import_module(name)\n",
        "lib/pkg/base.py": "import json\n",
        "lib/pkg/left/__init__.py": "from pkg.left.inner import f\n",
        "lib/pkg/left/inner.py": "def f():\n    from pkg import base\n",
        "lib/pkg/left/table.csv": "a\n",
        "lib/pkg/left/sets/one.csv": "b\n",
        "lib/pkg/right/__init__.py": "",
        "lib/pkg/right/deep.py": "from . import other\nfrom ..base import json\n",
        "lib/pkg/right/other.py": "",
        "lib/pkg/dynamic.py": "from importlib import import_module\ndef f(n):\n    return import_module(n)\n",
        "books/helper.py": "import second\n",
        "books/second.py": "import pkg.base\n",
        "books/unused.py": "",
        "books/data.txt": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def found(package, *code, extra=()):
    return list(find_sources(code, package / "books", package / "lib" / "pkg", extra))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import numpy, pkg", ["__init__.py"]),
        ("from pkg import base", ["__init__.py", "base.py"]),
        ("def f():\n    import pkg.base as b", ["__init__.py", "base.py"]),
        ("import pkg\npkg.base.json", ["__init__.py", "base.py"]),
        ("import pkg as p\nx = [p.base for _ in ()]", ["__init__.py", "base.py"]),
        ("%matplotlib inline\n!ls\nimport pkg.base", ["__init__.py", "base.py"]),
        (
            "from pkg.right import deep",
            ["__init__.py", "base.py", "right/__init__.py", "right/deep.py", "right/other.py"],
        ),
        (
            "from pkg.left import f",
            ["__init__.py", "base.py", "left/__init__.py", "left/inner.py", "left/sets/one.csv", "left/table.csv"],
        ),
        ('print("%d"\n      % 3)\ndef f():\n    import pkg.base', ["__init__.py", "base.py"]),
    ],
)
def test_imports_are_followed_as_far_as_they_go(package, code, expected):
    assert found(package, code) == [f"pkg/{name}" for name in expected]


def whole(package):
    return {f"pkg/{path.relative_to(package / 'lib' / 'pkg').as_posix()}" for path in package.glob("lib/pkg/**/*.*")}


@pytest.mark.faults
def test_code_that_cannot_be_read_needs_the_whole_package(package):
    # Not one of these shows all that it imports.
    magic_beside_an_operator = '%matplotlib inline\nprint("%d"\n      % 3)\ndef f():\n    import pkg.base\n'
    assert set(found(package, magic_beside_an_operator)) == whole(package)
    assert set(found(package, "this is no python\nimport second")) == whole(package) | {"second.py"}
    (package / "books" / "helper.py").write_text("this is no python\nimport second\n")
    assert set(found(package, "import helper")) == whole(package) | {"helper.py", "second.py"}


def test_a_computed_import_needs_the_whole_package(package):
    assert set(found(package, "import pkg.dynamic")) == whole(package)
    assert found(package, "__import__('pkg.base')") == ["pkg/__init__.py", "pkg/base.py"]


def test_modules_beside_the_notebook_count(package):
    assert found(package, "import helper") == ["helper.py", "pkg/__init__.py", "pkg/base.py", "second.py"]
    assert found(package, "import second", extra=["*.txt"])[0] == "data.txt"
    with pytest.raises(ValueError, match="`sources` must match files beside the notebook, got 'no.*'"):
        found(package, "import json", extra=["no.*"])


def test_the_digest_knows_names_and_contents(package):
    one, other = package / "books" / "helper.py", package / "books" / "second.py"
    digests = {digest_files(f) for f in ({"a": one}, {"b": one}, {"a": other}, {"a": one, "b": other}, {})}
    assert len(digests) == 5


def test_the_run_notebook_depends_on_what_it_trains_with_and_not_on_claims_or_batches(repository):
    notebook = load_notebook(repository / "notebooks" / "900_run.ipynb")
    names = set(find_sources(notebook.code, notebook.path.parent, PACKAGE))
    assert {"lt_lib/recipes/run.py", "lt_lib/training/loop.py", "lt_lib/losses/_ldam.py", "lt_lib/counts.py"} <= names
    assert not any(name.startswith(("lt_lib/claims", "lt_lib/batch", "lt_lib/theory", "lt_lib/cli")) for name in names)


def ids(path):
    return [run.id for run in make_plan(load_grid(path)).runs]


def test_a_run_is_named_by_code_parameters_and_sources_alone(tmp_path):
    path = write_grid(tmp_path / "a", "axes: {x: [1, 2]}\n", "import helper\n", RESULT)
    helper = tmp_path / "a" / "helper.py"
    helper.write_text("value = 1\n")
    before = ids(path)
    assert len(set(before)) == 2
    assert all(len(name) == 20 for name in before)

    # Prose, outputs, the grid's name, its limits and its place are not part of a run.
    notebook = tmp_path / "a" / "n.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = "# Other prose"
    content["cells"][1] |= {"execution_count": 3, "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}]}
    notebook.write_text(json.dumps(content, indent=3))
    path.write_text(path.read_text().replace("name: g", "name: h") + "limits: {attempts: 9}\nresources: {cpus: 2}\n")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert ids(path) == ids(tmp_path / "b" / "g.yaml") == before
    # A default that is stated changes nothing either.
    path.write_text(path.read_text() + "fixed: {flag: false, seed: 0}\n")
    assert ids(path) == before

    # One byte in a helper, in a cell or in a default names other runs.
    helper.write_text("value = 2\n")
    assert not set(ids(path)) & set(before)
    helper.write_text("value = 1\n")
    assert ids(path) == before
    for cells, parameters in (((RESULT + "#",), PARAMETERS), ((RESULT,), PARAMETERS.replace('"a"', '"b"'))):
        write_notebook(notebook, "import helper\n", *cells, parameters=parameters)
        assert not set(ids(path)) & set(before)


def test_a_pin_is_what_was_planned(tmp_path):
    path = write_grid(tmp_path, "axes: {x: [1]}\n", "import helper\n", RESULT)
    (tmp_path / "helper.py").write_text("value = 1\n")
    plan = make_plan(load_grid(path))
    write_pin(plan, tmp_path / "pin")
    assert (tmp_path / "pin" / "modules" / "helper.py").read_text() == "value = 1\n"
    assert load_notebook(tmp_path / "pin" / "notebook.ipynb").digest == plan.notebook_digest
    (tmp_path / "helper.py").write_text("value = 2\n")
    with pytest.raises(ValueError, match="`grid` must not change while it is planned"):
        write_pin(plan, tmp_path / "pin2")
