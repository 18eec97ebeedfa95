"""Who may import whom inside the library, held by reading the source, and what an import may bring along."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PRIVATE = {"_typing", "_checks", "_paths", "_cores"}
UNITS = PRIVATE | {
    "counts",
    "losses",
    "samplers",
    "metrics",
    "models",
    "theory",
    "data",
    "training",
    "recipes",
    "claims",
}
UNITS |= {"batch", "plotting", "cli"}
# The table of directions: a unit is a module or package directly under lt_lib.
ALLOWED: dict[str, set[str]] = {
    "_typing": set(),
    "_paths": set(),
    "_cores": set(),
    "_checks": {"_typing"},
    "counts": PRIVATE,
    "losses": PRIVATE | {"counts"},
    "samplers": PRIVATE | {"counts"},
    "metrics": PRIVATE | {"counts"},
    "models": PRIVATE | {"counts"},
    "theory": PRIVATE | {"counts"},
    "data": PRIVATE | {"counts"},
    "training": PRIVATE | {"counts", "metrics"},
    "recipes": UNITS - {"claims", "plotting", "batch", "cli"},
    "claims": UNITS - {"batch", "cli"},
    "batch": PRIVATE,
    "plotting": PRIVATE | {"counts"},
    "cli": UNITS,
    "__main__": {"cli"},
    "__init__": set(),
}
CORE_THIRD_PARTY = {"numpy", "torch", "jaxtyping"}
# Units dedicated to another library may import it at their top.
EXTRA_THIRD_PARTY = {"plotting": {"matplotlib"}}


def unit_of(path: Path, package: Path) -> str:
    """The unit a source file belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST) -> set[str]:
    """Absolute names of all modules that a tree imports, at any depth."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def units_imported(tree: ast.AST) -> set[str]:
    """Units of the library that a tree imports, at any depth."""
    parts = [name.split(".") for name in imported_modules(tree)]
    return {name[1] for name in parts if name[0] == "lt_lib" and len(name) > 1}


def imports_at_top(tree: ast.Module) -> set[str]:
    """Top-level packages imported when the module is loaded: not inside functions, nor under TYPE_CHECKING."""
    names, pending = set(), list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return names


def violations(package: Path) -> list[str]:
    """All imports that the table does not allow."""
    found = []
    for path in sorted(package.rglob("*.py")):
        tree, unit = ast.parse(path.read_text(encoding="utf-8")), unit_of(path, package)
        where = str(path.relative_to(package))
        if unit not in ALLOWED:
            found.append(f"{where} belongs to no unit of the table")
            continue
        found += [f"{where} imports {target}" for target in sorted(units_imported(tree) - ALLOWED[unit] - {unit})]
        found += [f"{where} imports relatively" for name in imported_modules(tree) if name.startswith(".")]
        known = CORE_THIRD_PARTY | EXTRA_THIRD_PARTY.get(unit, set()) | set(sys.stdlib_module_names) | {"lt_lib"}
        found += [f"{where} imports {name} at its top" for name in sorted(imports_at_top(tree) - known)]
    return found


def private_names_taken(package: Path) -> list[str]:
    """Names with a leading underscore, modules apart, that a module of the package takes from another one."""
    modules = {path.stem for path in package.glob("*.py")}
    found = []
    for path in sorted(package.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"lt_lib.{package.name}"):
                found += [f"{path.name} takes {name.name}" for name in node.names
                          if name.name.startswith("_") and name.name not in modules]  # fmt: skip
    return found


@pytest.mark.parametrize("package", ["claims", "recipes", "training"])
def test_modules_take_public_names_from_each_other(repository, package):
    assert private_names_taken(repository / "lt_lib" / package) == []


def test_a_private_name_that_is_taken_is_found(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "_a.py").write_text("_x = 1")
    (tmp_path / "claims" / "b.py").write_text("from lt_lib.claims import _a\nfrom lt_lib.claims._a import _x")
    assert private_names_taken(tmp_path / "claims") == ["b.py takes _x"]


def test_every_import_follows_the_table(repository):
    assert violations(repository / "lt_lib") == []


def test_the_table_has_no_cycle():
    list(graphlib.TopologicalSorter({unit: targets - {unit} for unit, targets in ALLOWED.items()}).static_order())


@pytest.mark.parametrize(
    ("file", "line", "problem"),
    [
        ("losses/x.py", "from lt_lib.samplers import draw", "losses/x.py imports samplers"),
        ("losses/x.py", "def f():\n    import lt_lib.training", "losses/x.py imports training"),
        ("losses/x.py", "from lt_lib import data", "losses/x.py imports data"),
        ("counts.py", "from ._checks import check", "counts.py imports relatively"),
        ("counts.py", "import scipy.stats", "counts.py imports scipy at its top"),
        ("counts.py", "class A:\n    import pandas", "counts.py imports pandas at its top"),
        ("other.py", "", "other.py belongs to no unit of the table"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, line, problem):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(line)
    assert problem in violations(tmp_path)


def test_an_import_inside_a_function_or_for_types_is_allowed(tmp_path):
    (tmp_path / "counts.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\ndef f():\n    import scipy\n"
    )
    assert violations(tmp_path) == []


def run_python(code: str, cwd: Path) -> str:
    """Standard output of a fresh interpreter."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_starts_without_the_numerical_libraries(tmp_path):
    code = (
        "import sys, lt_lib.cli\nprint([m for m in ('numpy', 'jaxtyping', 'yaml', 'distributed') if m in sys.modules])"
    )
    assert run_python(code, tmp_path).strip() == "[]"


def test_numpy_units_import_without_torch(repository, tmp_path):
    names = [u for u in ("counts", "theory", "claims", "batch") if list((repository / "lt_lib").glob(f"{u}*"))]
    modules = {f"lt_lib.{name}" for name in names}
    for name in names:
        modules |= {f"lt_lib.{name}.{path.stem}" for path in (repository / "lt_lib" / name).glob("[a-z]*.py")}
    code = f"import importlib, sys\nfor m in {sorted(modules)}:\n    importlib.import_module(m)\n"
    loaded = run_python(code + "print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])", tmp_path)
    assert loaded.strip() == "[]"


def test_importing_the_package_is_light_and_leaves_no_trace(tmp_path):
    code = """
import os, sys, warnings
def state():
    return dict(os.environ), list(warnings.filters), list(sys.path)
before = state()
import lt_lib
heavy = ("torch", "torchvision", "matplotlib", "pandas", "scipy", "sklearn")
print([name for name in heavy if name in sys.modules], state() == before)
"""
    assert run_python(code, tmp_path).strip() == "[] True"
    assert list(tmp_path.iterdir()) == []


def test_importing_torch_units_changes_no_global_state(repository, tmp_path):
    names = ("losses", "samplers", "metrics", "models", "data", "training", "recipes")
    present = [f"lt_lib.{name}" for name in names if list((repository / "lt_lib").glob(f"{name}*"))]
    code = f"""
import importlib, random, sys
import numpy as np, torch
def state():
    numbers = np.random.get_state()
    return random.getstate(), numbers[1].tobytes(), numbers[2], torch.get_rng_state().numpy().tobytes(), \\
        torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
before = state()
for name in {present}:
    importlib.import_module(name)
heavy = ("torchvision", "matplotlib", "pandas", "sklearn", "imblearn")
print(state() == before, [name for name in heavy if name in sys.modules])
"""
    assert run_python(code, tmp_path).strip() == "True []"
    assert list(tmp_path.iterdir()) == []
