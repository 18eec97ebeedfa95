"""Where the source tree lies, for everything whose place is relative to it, and files that are never half-written."""

import os
import secrets
from pathlib import Path


def source_tree() -> Path | None:
    """The checkout that holds the working directory, else the one that holds this file; None for an installed package.

    A notebook's kernel works in `notebooks/`, a script at the top: both find the same folders.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "pyproject.toml").is_file() and (folder / "lt_lib").is_dir():
                return folder
    return None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step, text as UTF-8: a reader, or a crash, finds the old content or the new, never a part.

    Threads, and processes on several machines or in several containers, may write one file at once.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
