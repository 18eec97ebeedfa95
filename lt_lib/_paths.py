"""Where the source tree lies, for everything whose place is relative to it, and files that are never half-written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def source_tree() -> Path | None:
    """The checkout that holds the working directory, else the one that holds this file; None for an installed package.

    A notebook's kernel works in `notebooks/`, a script at the top: both find the same folders.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "pyproject.toml").is_file() and (folder / "lt_lib").is_dir():
                return folder
    return None


def writable_folder(folder: str | os.PathLike[str], name: str) -> Path:
    """Make a folder if it is missing and see that files can be written to it, before long work begins.

    Args:
        folder: where results will go.
        name: of the argument that named it, for the error.

    Raises:
        ValueError: it cannot be made or written to.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        probe = place / f".{secrets.token_hex(8)}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"`{name}` must be a folder that can be written to, got {str(folder)!r}: {error}.") from error
    return place


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that appears under its name in one step, when the block has ended without an error.

    A reader, also after a crash, finds the old content or the new, never a part. Threads, and processes on several
    machines or in several containers, may write one file at once. Permissions are those of any new file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a `whole_file`, text as UTF-8."""
    with whole_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
