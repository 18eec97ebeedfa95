"""A digest of the code behind a check, so that a stored verdict can be told from one that the code would give now."""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

# Packages whose code is part of a check. What trains (losses, models, recipes) is not: the notebooks re-run every
# training row in each test run, and a new option there must not age all verdicts.
FOLLOWED = ("lt_lib.claims", "lt_lib.theory", "lt_lib.counts", "lt_lib.metrics")


def code_digest(modules: Iterable[str]) -> str:
    """Twelve hexadecimal digits for the code of modules and of all that they import among `FOLLOWED`.

    Comments, docstrings and blank lines do not count. Where the published tables are read, they count.

    Args:
        modules: names, such as "lt_lib.claims.long_tail"; others than `FOLLOWED` are left out.
    """
    return _digest(frozenset(modules))


@cache
def _digest(modules: frozenset[str]) -> str:
    found: set[str] = set()
    pending = [name for name in modules if _text(name)]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(imported(_text(name)))
    total = hashlib.sha256()
    for name in sorted(found):
        total.update(f"{name}\n{bare(_text(name))}\n".encode())
    if "lt_lib.claims.published" in found:
        tables = sorted(files("lt_lib.claims").joinpath("published").iterdir(), key=lambda entry: entry.name)
        for table in tables:
            if table.name.endswith(".csv"):
                total.update(table.name.encode() + table.read_bytes())
    return total.hexdigest()[:12]


def imported(source: str) -> list[str]:
    r"""Modules among `FOLLOWED` that a source imports, at any depth, sorted.

    Example:
        >>> imported("from lt_lib import counts\nfrom lt_lib.claims.core import Check\nimport numpy")
        ['lt_lib.claims.core', 'lt_lib.counts']
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return sorted(name for name in names if _text(name))


def bare(source: str) -> str:
    r"""Source without comments, docstrings, blank lines and trailing blanks.

    Example:
        >>> bare('"Doc."\nx = 1  # one\n\n')
        'x = 1'
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                first, last = node.body[0].lineno - 1, node.body[0].end_lineno
                lines[first:last] = [""] * len(lines[first:last])
    return "\n".join(line.rstrip() for line in lines if line.strip())


@cache
def _text(module: str) -> str:
    """Source of a module among `FOLLOWED`; empty for a package or another module, which are not followed."""
    if not any(module == name or module.startswith(f"{name}.") for name in FOLLOWED):
        return ""
    *folders, last = module.split(".")[1:]
    path = files("lt_lib").joinpath(*folders, f"{last}.py")
    return path.read_text(encoding="utf-8") if path.is_file() else ""
