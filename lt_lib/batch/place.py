"""A place: the folder that holds everything about batches, and the only truth about what is done.

    runs/<id>/              published runs, never changed: manifest.json notebook.ipynb log.txt out/
    attempts/<id>/<n>-…/    attempts that run or failed: attempt.json notebook.ipynb log.txt out/ outcome.json
    work/<id>/              what survives an attempt: the checkpoint of a training
    claims/<name>.json      who works on a run, or drives a grid, now
    grids/<name>/           the grid, its plan, earlier plans whose finished runs it lacks, and its reports
    pins/<digest>/          the notebook and the sources that the runs of a plan execute
    quarantine/             published runs and pins that were found damaged, moved out of the way

Many processes, on one machine or on several that share the folder, may work in one place at once.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_lib._paths import write_whole
from lt_lib.batch.identity import run_digest
from lt_lib.batch.pins import pin_problem
from lt_lib.batch.processes import end_group, host_name, start_mark

HEARTBEAT = 15.0
# A holder on another machine counts as gone after this many seconds without a beat.
CLAIM_LASTS = 10 * HEARTBEAT
_TAKEOVER_SECONDS = 60.0
# Where even a cell that meets one of these is not to blame.
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE}
# A cell may ask for a file that is not its to open; that the engine is refused one is a fault of the place.
_REFUSALS = {errno.EACCES, errno.EPERM}
# What reading a file that is not there, or is no file, raises. Any other error says nothing about what lies there.
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
FOLDERS = ("runs", "attempts", "work", "claims", "grids", "pins", "quarantine")


class DamagedRun(ValueError):
    """A published run is not whole. The message says what is wrong with it."""


class DamagedPin(ValueError):
    """A pin does not hold what its name says. The message says what is wrong with it."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a run, held by this process until it is given back."""

    path: Path
    token: str

    def beat(self) -> bool:
        """Show that the holder lives; False if the claim was lost.

        Raises:
            OSError: the place does not answer, which says nothing about the claim.
        """
        try:
            if not self._is_ours(self.path):
                return False
            os.utime(self.path)
        except FileNotFoundError:
            return False
        return True

    def release(self) -> None:
        """Give the claim back, if it is still held. Where the place does not answer, it ends with this process."""
        # The claim may be taken over at any moment. What was moved to a name of our own, nobody can exchange any more.
        private = self.path.with_name(f".{self.path.name}.{self.token}.released")
        with contextlib.suppress(OSError):
            if not self.beat():
                return
            os.rename(self.path, private)
            if self._is_ours(private):
                private.unlink()
            else:
                _put_back(private, self.path)

    def _is_ours(self, path: Path) -> bool:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return bool(json.loads(path.read_text())["token"] == self.token)
        return False


class Place:
    """One folder, see the module's description."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def open(self) -> None:
        """Make the folders."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def location(self) -> str:
        """What names this place to another process."""
        return str(self.folder)

    @property
    def shares_work(self) -> bool:
        """Whether an attempt on another machine finds what an earlier one left in the run's work folder."""
        return True

    @property
    def is_open(self) -> bool:
        """Whether this is a place already."""
        return all((self.folder / name).is_dir() for name in ("runs", "claims", "grids"))

    def probes(self) -> Iterator[tuple[str, str]]:
        """Write to every folder that a batch writes to, as far as they are there, and delete that again.

        Yields:
            The folder, and what was in the way; empty if nothing was.
        """
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        for path in (folder, *(self.folder / name for name in FOLDERS)):
            if path.exists():
                yield str(path), _refusal(path)

    # Published runs

    def run_folder(self, run: str) -> Path:
        """Where a run lies once it is published."""
        return self.folder / "runs" / run

    def published(self) -> list[str]:
        """Ids of all published runs."""
        return sorted(path.name for path in (self.folder / "runs").iterdir() if not path.name.startswith("."))

    def manifest(self, run: str, digest: str = "", *, contents: bool = False) -> dict[str, Any] | None:
        """The manifest of a published run, after checking the run against it.

        Args:
            run: its id.
            digest: its full identity, if the caller knows it.
            contents: also compare the SHA-256 of every file, not only its size.

        Returns:
            The manifest; None if the run is not published.

        Raises:
            DamagedRun: the run is there, but not whole.
            OSError: the place does not answer, or refuses to, which says nothing about the run.
        """
        folder = self.run_folder(run)
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
        except FileNotFoundError:
            if not _is_there(folder):
                return None
            raise DamagedRun("manifest.json is missing") from None
        except (*_ABSENT, ValueError) as error:
            raise DamagedRun(f"manifest.json cannot be read: {error}") from error
        problem = manifest_problem(manifest, run, digest) or _file_problem(manifest, folder, contents)
        if problem:
            raise DamagedRun(problem)
        return manifest

    def publish(self, run: str, folder: Path) -> bool:
        """Make an attempt's folder the published run, in one step.

        Returns:
            False if the run is published already; the folder then stays where it is.
        """
        _sync_tree(folder)
        try:
            os.rename(folder, self.run_folder(run))
        except OSError:
            if (self.run_folder(run) / "manifest.json").exists():
                return False
            raise
        _sync(self.run_folder(run).parent)
        return True

    def quarantine(self, run: str, reason: str) -> Path | None:
        """Move a damaged run out of the way; None if another process did so already."""
        return self._move_away(self.run_folder(run), reason)

    def _move_away(self, folder: Path, reason: str) -> Path | None:
        target = self.folder / "quarantine" / f"{folder.name}-{secrets.token_hex(4)}"
        try:
            os.rename(folder, target)
        except FileNotFoundError:
            return None
        write_whole(target / "reason.txt", f"{reason}\n")
        return target

    # Attempts

    def new_attempt(self, run: str) -> Path:
        """A new folder for an attempt at a run."""
        parent = self.folder / "attempts" / run
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.name.partition("-")[0]) for path in self.attempts(run)), default=0)
        folder = parent / f"{number}-{secrets.token_hex(4)}"
        (folder / "out").mkdir(parents=True)
        return folder

    def attempts(self, run: str) -> list[Path]:
        """Folders of the attempts at a run, oldest first."""
        found = [path for path in (self.folder / "attempts" / run).glob("[0-9]*-*") if path.is_dir()]
        return sorted(found, key=lambda path: (int(path.name.partition("-")[0]), path.name))

    def outcomes(self, run: str) -> list[dict[str, Any]]:
        """How the finished attempts at a run ended, oldest first. Damaged notes are left out."""
        found = []
        for folder in self.attempts(run):
            with contextlib.suppress(OSError, ValueError):
                outcome = json.loads((folder / "outcome.json").read_bytes())
                found.append({**outcome, "attempt": folder.name})
        return found

    def attempted(self) -> set[str]:
        """Ids of the runs with attempts, in one look at the folder."""
        return {entry.name for entry in os.scandir(self.folder / "attempts")}

    def close_abandoned(self, run: str, session: str) -> None:
        """Settle attempts whose process vanished: end what it left running, and note how it ended.

        The caller holds the claim, so nobody works on them. An attempt of this driver lost its worker; one of an
        earlier driver was interrupted with it, which costs the run nothing.
        """
        for folder in self.attempts(run):
            if (folder / "outcome.json").exists():
                continue
            try:
                started = json.loads((folder / "attempt.json").read_bytes())
            except (OSError, ValueError):
                started = {}
            if started.get("host") == host_name():
                end_group(started.get("kernel", 0), started.get("kernel_mark", ""))
            lost = started.get("session") == session
            message = "the process that ran it vanished" if lost else "the batch that ran it ended"
            outcome = {"kind": "worker-lost" if lost else "interrupted", "message": message}
            self.note_outcome(folder, outcome)

    def note_outcome(self, folder: Path, outcome: Mapping[str, Any]) -> None:
        """Write how an attempt ended."""
        write_whole(folder / "outcome.json", json.dumps(outcome, indent=1, sort_keys=True) + "\n")

    def forget_failures(self, run: str) -> bool:
        """Let a failed run start afresh. Its attempts stay for reading.

        Returns:
            Whether there was something to forget.
        """
        found = False
        for folder in self.attempts(run):
            path = folder / "outcome.json"
            with contextlib.suppress(OSError, ValueError):
                outcome = json.loads(path.read_bytes())
                if not outcome.get("forgotten"):
                    self.note_outcome(folder, {**outcome, "forgotten": True})
                    found = True
        return found

    def drop_attempts(self, run: str) -> None:
        """Delete what attempts left behind once the run is published."""
        shutil.rmtree(self.folder / "attempts" / run, ignore_errors=True)
        shutil.rmtree(self.folder / "work" / run, ignore_errors=True)

    def work_folder(self, run: str) -> Path:
        """A folder of a run that survives its attempts."""
        folder = self.folder / "work" / run
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # Claims

    def claim(self, name: str, session: str) -> Claim | None:
        """Claim a run, or the driving of a grid.

        Args:
            name: id of the run, or a name of the caller's choice.
            session: names the driver on whose behalf.

        Returns:
            The claim; None if a living process holds it.
        """
        token = secrets.token_hex(8)
        path = self.folder / "claims" / f"{name}.json"
        text = owner_text(token, session)
        if _create(path, text):
            return Claim(path, token)
        holder = self.holder(name)
        if holder is None:
            return Claim(path, token) if _create(path, text) else None
        if holder["alive"]:
            return None
        return Claim(path, token) if self._take_over(path, holder, text) else None

    def holder(self, name: str) -> dict[str, Any] | None:
        """Who holds a claim, with the key `alive`; None if nobody does."""
        path = self.folder / "claims" / f"{name}.json"
        try:
            text = path.read_text()
            age = self._clock() - path.stat().st_mtime
        except FileNotFoundError:
            return None
        try:
            holder = json.loads(text)
            return {**holder, "text": text, "alive": is_alive(holder, age)}
        except (ValueError, KeyError, TypeError):
            # Just created and not yet written, or the disk was full at that moment.
            return {"token": "", "session": "", "text": text, "alive": age < HEARTBEAT}

    def claims(self) -> list[str]:
        """Names of all claims."""
        return sorted(path.stem for path in (self.folder / "claims").glob("*.json"))

    def _take_over(self, path: Path, holder: Mapping[str, Any], text: str) -> bool:
        """Replace the claim of a process that is gone. Of several that try, one wins."""
        # All who judged the same dead claim meet here, because the lock carries its token.
        lock = path.with_name(f".{path.name}.{holder['token']}.takeover")
        if not _create(lock, text):
            with contextlib.suppress(FileNotFoundError):
                if self._clock() - lock.stat().st_mtime > _TAKEOVER_SECONDS:
                    lock.unlink()
            return False
        try:
            if not path.exists() or path.read_text() != holder["text"]:
                return False
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            temporary.write_text(text)
            os.replace(temporary, path)
            return True
        finally:
            lock.unlink(missing_ok=True)

    def _clock(self) -> float:
        """The time by the clock of the machine that serves the folder, which alone stamps the claims."""
        probe = self.folder / "claims" / f".clock-{secrets.token_hex(4)}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    # Grids and pins

    def grid_folder(self, name: str) -> Path:
        """Where the grid of that name keeps its plan and reports."""
        return self.folder / "grids" / name

    def save_plan(self, name: str, grid_text: str, plan_text: str) -> None:
        """Keep a grid and its plan; they replace an earlier plan of that name.

        An earlier plan stays under another name, `kept_plan`, where runs are done that the new one lacks: only it
        says which they are.
        """
        if self.dropped(name, run_ids(json.loads(plan_text))):
            self.save_report(name, self.kept_plan(name), (self._plan_text(name) or b"").decode())
        self.save_report(name, "grid.yaml", grid_text)
        self.save_report(name, "plan.json", plan_text)

    def plan(self, name: str) -> dict[str, Any] | None:
        """The plan of a grid; None if there is none, or what is there is no plan."""
        try:
            plan = json.loads(self._plan_text(name) or b"")
            run_ids(plan)
        except (ValueError, KeyError, TypeError):
            return None
        return dict(plan)

    def kept_plan(self, name: str) -> str:
        """The file beside the plan of a grid that keeps that plan once another has replaced it."""
        return f"plan-{hashlib.sha256(self._plan_text(name) or b'').hexdigest()[:12]}.json"

    def dropped(self, name: str, runs: Collection[str]) -> list[str]:
        """Finished runs of the plan of a grid that are not among these."""
        plan = self.plan(name)
        missing = run_ids(plan) - set(runs) if plan else set()
        return sorted(missing & set(self.published())) if missing else []

    def save_report(self, name: str, file: str, content: str) -> None:
        """Keep a file in the folder of a grid, whole or not at all."""
        self.grid_folder(name).mkdir(parents=True, exist_ok=True)
        write_whole(self.grid_folder(name) / file, content)

    def plans(self) -> list[dict[str, Any]]:
        """All plans, by the name of their grid.

        Raises:
            ValueError: a plan cannot be read, or the folder is no place.
            OSError: the place does not answer.
        """
        if not self.is_open:
            raise ValueError(f"`place` must be a folder that `lt-lib batch` has written to, got {str(self.folder)!r}.")
        found = []
        for path in sorted((self.folder / "grids").glob("*/plan.json")):
            try:
                found.append(json.loads(path.read_bytes()))
            except ValueError as error:
                raise ValueError(f"`place` must hold readable plans, got {str(path)!r}: {error}") from error
        return found

    def _plan_text(self, name: str) -> bytes | None:
        try:
            return (self.grid_folder(name) / "plan.json").read_bytes()
        except _ABSENT:
            return None

    def pin_folder(self, pin: str) -> Path:
        """Where the copy of a notebook and its sources lies."""
        return self.folder / "pins" / pin

    def pins(self) -> list[str]:
        """Names of all pins."""
        return sorted(path.name for path in (self.folder / "pins").iterdir() if not path.name.startswith("."))

    def check_pin(self, pin: str) -> None:
        """Compare a pin with what its name says it holds.

        Raises:
            DamagedPin: it holds something else.
            OSError: the place does not answer.
        """
        refuse_damaged(self.folder / "pins" / pin, pin)

    def quarantine_pin(self, pin: str, reason: str) -> str:
        """Move a damaged pin out of the way.

        Returns:
            Where it is now; empty if another process moved it already.
        """
        return str(self._move_away(self.folder / "pins" / pin, reason) or "")

    def save_pin(self, pin: str, write: Callable[[Path], None]) -> Path:
        """Keep a copy of a notebook and its sources.

        One that is there already is used if it is whole, whoever wrote it; else it goes to the quarantine.

        Raises:
            DamagedPin: what was written is not what the name says.
        """
        target = self.folder / "pins" / pin
        if _is_there(target):
            problem = pin_problem(target, pin)
            if not problem:
                return target
            self._move_away(target, problem)
        temporary = target.with_name(f".{pin}.{secrets.token_hex(4)}.tmp")
        try:
            write(temporary)
            # The name must not outlive a crash of the machine that the content does not.
            _sync_tree(temporary)
            os.rename(temporary, target)
            _sync(target.parent)
        except OSError:
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        # Another driver may have won, so what is there now is what counts.
        refuse_damaged(target, pin)
        return target

    def stop_mark(self, session: str) -> Path:
        """A file whose existence tells the attempts of a driver to end."""
        return self.folder / "claims" / f".stop-{session}"


def storage_problem(error: BaseException) -> bool:
    """Whether an error that the engine met says that the place cannot be written or read.

    A full disk, a broken one, a server that is away, rights that are missing, a store that fails.
    """
    if isinstance(error, OSError):
        return error.errno in STORAGE_ERRORS | _REFUSALS
    return type(error).__module__.startswith("obstore")


def refuse_damaged(folder: Path, pin: str) -> None:
    """Compare a pin in a folder with what its name says it holds.

    Raises:
        DamagedPin: it holds something else.
    """
    problem = pin_problem(folder, pin)
    if problem:
        raise DamagedPin(f"pin {pin}: {problem}")


def run_ids(plan: Mapping[str, Any]) -> set[str]:
    """Ids of the runs of a plan.

    Raises:
        KeyError, TypeError: it is no plan.
    """
    return {run["id"] for run in plan["runs"]}


def owner_text(token: str, session: str) -> str:
    """The content of a claim of this process."""
    owner = {"host": host_name(), "pid": os.getpid(), "mark": start_mark(os.getpid())}
    return json.dumps({**owner, "token": token, "session": session})


def is_alive(holder: Mapping[str, Any], age: float) -> bool:
    """Whether the holder of a claim lives: on this machine its process decides, elsewhere the age of its last beat."""
    if holder["host"] == host_name():
        return bool(start_mark(int(holder["pid"])) == holder["mark"] != "")
    return age < CLAIM_LASTS


def manifest_of(folder: Path, **fields: Any) -> dict[str, Any]:
    """The manifest of an attempt's folder: its files with sizes and digests, and what else is known about it."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in ("manifest.json", "attempt.json"):
            continue
        files[name] = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {"version": 1, **fields, "files": files}


def manifest_problem(manifest: Any, run: str, digest: str = "") -> str:
    """What is wrong with a manifest by itself; empty if nothing is."""
    try:
        if manifest["version"] != 1:
            return f"manifest.json has the version {manifest['version']!r}"
        if manifest["run"] != run or manifest["digest"][: len(run)] != run or (digest and manifest["digest"] != digest):
            return "manifest.json belongs to another run"
        if not manifest["files"]:
            return "manifest.json lists no files"
        identity = run_digest(manifest["notebook_digest"], manifest["parameters"], manifest["sources_digest"])
    except (KeyError, TypeError, ValueError, IndexError):
        return "manifest.json is not complete"
    return "" if identity == manifest["digest"] else "manifest.json was edited: its parameters give another identity"


def _file_problem(manifest: Mapping[str, Any], folder: Path, contents: bool) -> str:
    for name, entry in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry["size"]:
                return f"{name} has {size} bytes instead of {entry['size']}"
            if contents and hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
                return f"{name} has changed since it was published"
        except _ABSENT:
            return f"{name} is missing"
    return ""


def _refusal(folder: Path) -> str:
    """What keeps this process from writing to a folder; empty if nothing does."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        return str(error)
    return ""


def _is_there(path: Path) -> bool:
    """Whether there is something; unlike `Path.exists`, a folder that does not answer is an error in every Python."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def tail(path: Path, lines: int = 12) -> str:
    """The end of a log; empty if there is none."""
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return ""


def _create(path: Path, text: str) -> bool:
    """Create a file with its content; False if it is there already."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        temporary.write_text(text)
        # A link appears with its content or not at all, and fails if the name is taken.
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        if not temporary.exists() or path.exists():
            raise
        return _create_plain(path, text)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _put_back(moved: Path, path: Path) -> None:
    """Give a file its name again, unless another has got that name meanwhile."""
    try:
        os.link(moved, path)
    except FileExistsError:
        pass
    except OSError:
        if not path.exists():
            os.rename(moved, path)
    moved.unlink(missing_ok=True)


def _create_plain(path: Path, text: str) -> bool:
    """The same on file systems without hard links."""
    try:
        with open(path, "x") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() or path.is_dir():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
