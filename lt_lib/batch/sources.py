"""Which source files a notebook depends on, found by reading imports, and a copy of them that no edit can reach."""

import ast
import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_MAGIC = re.compile(r"^(\s*)[%!].*$", flags=re.MULTILINE)
# Folders that hold no sources, but what Python makes of them.
SKIPPED = {"__pycache__"}


def find_sources(code: Sequence[str], folder: Path, package: Path, extra: Sequence[str] = ()) -> dict[str, Path]:
    """The files that decide what a notebook's code does, apart from installed libraries.

    Imports are followed at any depth, also inside functions, through modules that lie beside the notebook and through
    one package. Data files count with the package folder that holds them. A module that imports by a computed name
    counts as needing its whole package; a module-level `__getattr__`, which loads what is named elsewhere, does not.
    Code that is no Python, also without IPython's magic lines, counts as needing the whole package.

    Args:
        code: sources of the code cells.
        folder: the notebook's folder, where modules of its own may lie.
        package: folder of the package that is followed, for example `…/lt_lib`.
        extra: patterns relative to `folder` of files that no import shows: modules, or data for a module beside it.

    Returns:
        Files by the name under which a search path would find them, sorted.

    Raises:
        ValueError: a pattern matches nothing, or only data and there is no module that would find it.
    """
    found: dict[str, Path] = {}
    names: list[str] = []
    everything = [_module_name(file, package) for file in sorted(package.rglob("*.py"))]
    for source in code:
        # Only code that is no Python can hold magic lines: a line that begins with % may also go on with an expression.
        tree = _parse(source) or _parse(_MAGIC.sub(r"\1pass", source))
        names += sorted(_imported(tree or _import_lines(source), "")[0])
        names += [] if tree else everything
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        for module, path in _files_of(name, folder, package):
            relative = _relative(module, path)
            if relative in found:
                continue
            found[relative] = path
            text = path.read_text(encoding="utf-8")
            tree = _parse(text)
            imports, whole = _imported(tree or _import_lines(text), _package_of(module, path))
            names += sorted(imports)
            if tree is None or (whole and module.split(".")[0] == package.name):
                names += everything
    for name, path in [item for item in found.items() if item[1].name == "__init__.py"]:
        for file in _data_files(path.parent):
            found[f"{name.removesuffix('__init__.py')}{file.relative_to(path.parent).as_posix()}"] = file
    given = _extra_files(extra, folder)
    found |= given
    own = any(name.endswith(".py") and package not in path.parents for name, path in found.items())
    data = next((name for name in given if not name.endswith(".py")), None)
    if data is not None and not own:
        raise ValueError(_unreachable(data))
    return dict(sorted(found.items()))


def digest_files(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents."""
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def copy_files(files: Mapping[str, Path], target: Path) -> None:
    """Copy files under their names into a folder."""
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def _extra_files(patterns: Sequence[str], folder: Path) -> dict[str, Path]:
    """What the patterns match, by the names relative to the notebook's folder."""
    found: dict[str, Path] = {}
    for pattern in patterns:
        inside = pattern and not Path(pattern).is_absolute() and ".." not in Path(pattern).parts
        matches = {path.relative_to(folder): path for path in folder.glob(pattern)} if inside else {}
        matches = {name: path for name, path in matches.items() if path.is_file() and not SKIPPED & set(name.parts)}
        if not matches:
            raise ValueError(f"`sources` must match files beside the notebook, got {pattern!r}, which matches none.")
        found |= {name.as_posix(): path for name, path in matches.items()}
    return found


def _unreachable(data: str) -> str:
    """Why data alone is refused: no source lies where a run works. A module is copied with the data, and finds it."""
    return (
        f"`sources` must name data only with a module beside the notebook that reads it, as "
        f"`Path(__file__).with_name(...)`, got {data!r} and no such module: a run works in a folder of its own, where "
        "the notebook itself would not find it."
    )


def _parse(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def _import_lines(source: str) -> ast.Module:
    """The lines that import, of code that cannot be read as a whole."""
    lines = re.findall(r"^(?:import|from)\s[^\n(\\]+$", source, flags=re.MULTILINE)
    return ast.parse("\n".join(line for line in lines if _parse(line)))


def _imported(tree: ast.Module, package: str) -> tuple[set[str], bool]:
    """Dotted names that a module may load, and whether it loads modules by a computed name."""
    names: set[str] = set()
    aliases: dict[str, str] = {}
    whole = False
    lazy = {
        id(node)
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name == "__getattr__"
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            for alias in node.names:
                first = alias.name.split(".")[0]
                aliases[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
            aliases |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and id(node) not in lazy and _is_import_call(node.func):
            if node.args and isinstance(node.args[0], ast.Constant):
                names.add(str(node.args[0].value))
            else:
                whole = True
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if re.fullmatch(r"[\w.]+", dotted):
                first, _, rest = dotted.partition(".")
                if first in aliases:
                    names.add(f"{aliases[first]}.{rest}")
    return names, whole


def _is_import_call(function: ast.expr) -> bool:
    return ast.unparse(function) in ("import_module", "importlib.import_module", "__import__")


def _files_of(name: str, folder: Path, package: Path) -> Iterable[tuple[str, Path]]:
    """The files that importing a dotted name runs: every package on the way, and the module itself."""
    parts = name.split(".")
    root = package.parent if parts[0] == package.name else folder
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        if (place / "__init__.py").is_file():
            yield ".".join(parts[:length]), place / "__init__.py"
        elif place.with_name(f"{place.name}.py").is_file():
            yield ".".join(parts[:length]), place.with_name(f"{place.name}.py")
            return
        elif not place.is_dir() or length == len(parts):
            return


def _relative(module: str, path: Path) -> str:
    name = module.replace(".", "/")
    return f"{name}/__init__.py" if path.name == "__init__.py" else f"{name}.py"


def _package_of(module: str, path: Path) -> str:
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def _module_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _data_files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in SKIPPED or path.name.startswith("."):
            continue
        if path.is_dir():
            if not (path / "__init__.py").is_file():
                yield from (file for file in _data_files(path) if file.suffix != ".py")
        elif path.suffix not in (".py", ".pyc"):
            yield path
