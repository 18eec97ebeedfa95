"""A place in an object store, `s3://bucket/prefix` or another address: nothing there can be renamed, so manifests rule.

Attempts run on local disk, in a mirror of the place. A run is published by uploading its files under a name of its own,
and then creating its manifest, which the store lets only one writer do; readers trust the manifest alone. A run in the
mirror keeps the tag that its manifest had in the store, and counts only while the store lists that tag and all of its
files. Claims are objects too, created exclusively and taken over by comparing their tag. Checkpoints stay in the
mirror: a run goes on from its own only on the machine, and with the disk, that it began on.

The store is spoken to by `obstore`, not by fsspec's file systems: a claim is taken over with "replace it if its tag is
still this one", which obstore has as one call for every kind of store and fsspec has not. Of eight writers at once that
create a manifest, one won in each of 40 races on moto's server with either (s3fs with `mode="create"`). Besides, every
attempt imports the library, and publishing makes a request per file: 0.1 s against 2.1 s for the import of s3fs, and
1.1 s against 3.9 s for 100 small objects, measured on 2 busy cores; and it is one package instead of some twenty.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_lib.batch.pins import pin_problem
from lt_lib.batch.place import HEARTBEAT, DamagedPin, DamagedRun, Place, is_alive, owner_text, refuse_damaged
from lt_lib.batch.sources import SKIPPED

_LIST_SECONDS = 2.0
_STOP_SECONDS = 5.0
# In a run's folder in the mirror: the tag that its manifest had in the store.
_TAG = ".tag"


@dataclass(frozen=True)
class ObjectClaim:
    """The right to work on a run, held as an object."""

    store: Any
    key: str
    token: str

    def beat(self) -> bool:
        """See `lt_lib.batch.place.Claim`. A store that fails raises its own error."""
        from obstore.exceptions import PreconditionError

        try:
            text, tag, _ = _read(self.store, self.key)
            content = json.loads(text)
            if content["token"] != self.token:
                return False
            # Another content gives another tag, so a beat and a takeover cannot both succeed.
            beat = json.dumps(content | {"beat": secrets.token_hex(4)}).encode()
            try:
                self.store.put(self.key, beat, mode={"e_tag": tag})
            except PreconditionError:
                # A takeover; or our own beat, whose answer was lost before it was sent again.
                return bool(json.loads(_read(self.store, self.key)[0])["token"] == self.token)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        return True

    def release(self) -> None:
        """See `lt_lib.batch.place.Claim`."""
        with contextlib.suppress(OSError, _store_error()):
            # The store deletes on no condition. The beat makes the claim fresh, so only a process that is stopped right
            # here for as long as a claim lasts can delete that of another.
            if self.beat():
                self.store.delete(self.key)


class StopMark:
    """An object whose existence tells the attempts of a driver to end; looked at now and then."""

    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key, self._asked, self._found = store, key, 0.0, False

    def exists(self) -> bool:
        """Whether it was there at the last look."""
        if not self._found and time.monotonic() - self._asked > _STOP_SECONDS:
            self._asked = time.monotonic()
            with contextlib.suppress(FileNotFoundError):
                self._store.head(self._key)
                self._found = True
        return self._found

    def touch(self) -> None:
        """Make it."""
        self._store.put(self._key, b"stop")

    def unlink(self, missing_ok: bool = True) -> None:
        """Remove it."""
        with contextlib.suppress(FileNotFoundError):
            self._store.delete(self._key)


class ObjectPlace(Place):
    """A place in an object store, with a mirror on local disk.

    Args:
        address: such as `s3://bucket/prefix`; credentials come from the store's usual environment variables.
        mirror: local folder; by default one for this address under `LT_MIRROR` or the user's cache.
    """

    def __init__(self, address: str, mirror: Path | None = None) -> None:
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        cache = os.environ.get("LT_MIRROR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        super().__init__(mirror or Path(cache) / "lt-lib" / name)
        self.address = address
        self.store = _open_store(address)
        self._listed: tuple[float, dict[str, dict[str, Any]]] = (-1e9, {})
        super().open()

    @property
    def location(self) -> str:
        """The address."""
        return self.address

    @property
    def shares_work(self) -> bool:
        """No: the work folder lies in the mirror."""
        return False

    @property
    def is_open(self) -> bool:
        """Whether a batch has written there."""
        return bool(self._names("grids/"))

    def probes(self) -> Iterator[tuple[str, str]]:
        """See `Place`. An object is made, listed, read and deleted."""
        key, content = f"claims/.probe-{secrets.token_hex(4)}", secrets.token_bytes(8)
        problem = ""
        try:
            self.store.put(key, content)
            if key not in self._names("claims/") or bytes(self.store.get(key).bytes()) != content:
                problem = "an object that was just made is not there, or not as it was made"
            self.store.delete(key)
        except (OSError, _store_error()) as error:
            # What follows the first line is the library's view of its own request.
            problem = str(error).partition("\n")[0]
        yield self.address, problem
        yield from super().probes()

    # Published runs

    def published(self) -> list[str]:
        """See `Place`."""
        return sorted(run for run, names in self._listing(fresh=True).items() if "manifest.json" in names)

    def manifest(self, run: str, digest: str = "", *, contents: bool = False) -> dict[str, Any] | None:
        """See `Place`. What the store lists as another than in the mirror is fetched; a look at contents always is."""
        found = None
        # What follows from the listing of a moment ago is said to be missing or damaged only after another look.
        with contextlib.suppress(DamagedRun):
            found = self._look(run, digest, contents, fresh=False)
        return self._look(run, digest, contents, fresh=True) if found is None else found

    def publish(self, run: str, folder: Path) -> bool:
        """See `Place`."""
        token = secrets.token_hex(8)
        manifest = json.loads((folder / "manifest.json").read_bytes()) | {"stored": token}
        text = (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
        (folder / "manifest.json").write_bytes(text)
        for name in manifest["files"]:
            self.store.put(f"runs/{run}/{token}/{name}", (folder / name).read_bytes())
        tag = self._create(f"runs/{run}/manifest.json", text)
        if tag is None:
            self._drop(f"runs/{run}/{token}/")
            return False
        self._listed = (-1e9, {})
        (folder / _TAG).write_text(json.dumps(tag))
        shutil.rmtree(self.run_folder(run), ignore_errors=True)
        # Another process of this machine may have fetched it already, which makes it no less published.
        super().publish(run, folder)
        return True

    def quarantine(self, run: str, reason: str) -> Path | None:
        """See `Place`. The files stay where they are; without their manifest they are no run."""
        key = f"runs/{run}/manifest.json"
        try:
            text = bytes(self.store.get(key).bytes())
        except FileNotFoundError:
            return None
        self.store.put(f"quarantine/{run}-{secrets.token_hex(4)}/manifest.json", text)
        self.store.delete(key)
        self._listed = (-1e9, {})
        return super().quarantine(run, reason)

    # Attempts

    def outcomes(self, run: str) -> list[dict[str, Any]]:
        """See `Place`."""
        for key in self._names(f"attempts/{run}/"):
            path = self.folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(self.store.get(key).bytes()))
        return super().outcomes(run)

    def attempted(self) -> set[str]:
        """See `Place`."""
        return super().attempted() | {name.split("/")[1] for name in self._names("attempts/")}

    def note_outcome(self, folder: Path, outcome: Mapping[str, Any]) -> None:
        """See `Place`. The notebook and the log go with it."""
        super().note_outcome(folder, outcome)
        for name in ("notebook.ipynb", "log.txt", "outcome.json"):
            if (folder / name).is_file():
                self.store.put(f"attempts/{folder.parent.name}/{folder.name}/{name}", (folder / name).read_bytes())

    def drop_attempts(self, run: str) -> None:
        """See `Place`."""
        super().drop_attempts(run)
        self._drop(f"attempts/{run}/")

    # Claims

    def claim(self, name: str, session: str) -> Any:
        """See `Place`."""
        key, token = f"claims/{name}.json", secrets.token_hex(8)
        text = owner_text(token, session).encode()
        if self._create(key, text) is not None:
            return ObjectClaim(self.store, key, token)
        holder = self.holder(name)
        if holder is None:
            return None if self._create(key, text) is None else ObjectClaim(self.store, key, token)
        if holder["alive"]:
            return None
        try:
            # Of several that judged the same dead claim, the store lets one replace it.
            self.store.put(key, text, mode={"e_tag": holder["tag"]})
        except (FileNotFoundError, _store_error()):
            return None
        return ObjectClaim(self.store, key, token)

    def holder(self, name: str) -> dict[str, Any] | None:
        """See `Place`."""
        try:
            text, tag, modified = _read(self.store, f"claims/{name}.json")
        except FileNotFoundError:
            return None
        probe = f"claims/.clock-{secrets.token_hex(4)}"
        self.store.put(probe, b"")
        age = self.store.head(probe)["last_modified"].timestamp() - modified
        self.store.delete(probe)
        try:
            holder = json.loads(text)
            return {**holder, "tag": tag, "alive": is_alive(holder, age)}
        except (ValueError, KeyError, TypeError):
            return {"token": "", "session": "", "tag": tag, "alive": age < HEARTBEAT}

    def claims(self) -> list[str]:
        """See `Place`."""
        names = (Path(name).name for name in self._names("claims/"))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def stop_mark(self, session: str) -> Any:
        """See `Place`."""
        return StopMark(self.store, f"claims/.stop-{session}")

    # Grids and pins

    def plans(self) -> list[dict[str, Any]]:
        """See `Place`."""
        keys = [key for key in self._names("grids/") if key.endswith("/plan.json")]
        if not keys:
            raise ValueError(f"`place` must be a place that `lt-lib batch` has written to, got {self.address!r}.")
        found = []
        for key in keys:
            try:
                found.append(json.loads(bytes(self.store.get(key).bytes())))
            except (OSError, ValueError) as error:
                address = f"{self.address}/{key}"
                raise ValueError(f"`place` must hold readable plans, got {address!r}: {error}") from error
        return found

    def save_report(self, name: str, file: str, content: str) -> None:
        """See `Place`."""
        super().save_report(name, file, content)
        self.store.put(f"grids/{name}/{file}", content.encode())

    def _plan_text(self, name: str) -> bytes | None:
        return self._content(f"grids/{name}/plan.json")

    def pins(self) -> list[str]:
        """See `Place`."""
        return [Path(name).name.removesuffix(".tar.gz") for name in self._names("pins/")]

    def check_pin(self, pin: str) -> None:
        """See `Place`. The store's copy is looked at."""
        with tempfile.TemporaryDirectory(dir=self.folder / "pins", prefix=".") as folder:
            _unpack(pin, self._content(_pin_key(pin)) or b"", Path(folder))
            refuse_damaged(Path(folder), pin)

    def save_pin(self, pin: str, write: Callable[[Path], None]) -> Path:
        """See `Place`. A copy in the store that is not whole is replaced too."""
        folder = super().save_pin(pin, write)
        packed, key = _packed(folder), _pin_key(pin)
        if self._create(key, packed) is None:
            try:
                self.check_pin(pin)
            except DamagedPin:
                self._move_packed(pin)
                self.store.put(key, packed)
        return folder

    def quarantine_pin(self, pin: str, reason: str) -> str:
        """See `Place`."""
        super().quarantine_pin(pin, reason)
        return self._move_packed(pin)

    def pin_folder(self, pin: str) -> Path:
        """See `Place`. The store's copy is brought into the mirror, and again if the one there is not whole.

        Raises:
            DamagedPin: neither is whole.
        """
        folder = super().pin_folder(pin)
        if folder.is_dir() and not pin_problem(folder, pin):
            return folder
        content = self._content(_pin_key(pin))
        if content is not None:
            super().save_pin(pin, lambda target: _unpack(pin, content, target))
        elif folder.is_dir():
            refuse_damaged(folder, pin)
        return folder

    def _move_packed(self, pin: str) -> str:
        key, target = _pin_key(pin), f"quarantine/{pin}-{secrets.token_hex(4)}.tar.gz"
        content = self._content(key)
        if content is None:
            return ""
        self.store.put(target, content)
        self.store.delete(key)
        return f"{self.address}/{target}"

    def _look(self, run: str, digest: str, contents: bool, *, fresh: bool) -> dict[str, Any] | None:
        """See `manifest`."""
        listed = self._listing(fresh=fresh).get(run, {})
        if "manifest.json" not in listed:
            if fresh:
                shutil.rmtree(self.run_folder(run), ignore_errors=True)
            return None
        tag = listed["manifest.json"]["e_tag"]
        if fresh or contents or self._mirrored_tag(run) != tag:
            try:
                self._fetch(run, tag)
            except FileNotFoundError:  # it was moved away since it was listed
                return None
        manifest = super().manifest(run, digest, contents=contents)
        problem = _listed_problem(manifest, listed) if manifest else ""
        if problem:
            raise DamagedRun(problem)
        return manifest

    def _mirrored_tag(self, run: str) -> Any:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            return json.loads((self.run_folder(run) / _TAG).read_bytes())
        return ""

    def _fetch(self, run: str, tag: Any) -> None:
        """Bring a run into the mirror, in one step.

        Args:
            run: its id.
            tag: that of its manifest when it was listed. Should the manifest be a later one, the next look finds that
                the tag is not the store's, and fetches again.
        """
        temporary, old = (self.folder / "runs" / f".{run}.{secrets.token_hex(4)}" for _ in range(2))
        try:
            text = bytes(self.store.get(f"runs/{run}/manifest.json").bytes())
            manifest = json.loads(text)
            for name in manifest["files"]:
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = self._content(f"runs/{run}/{manifest['stored']}/{name}")
                if content is not None:
                    path.write_bytes(content)
            (temporary / "manifest.json").write_bytes(text)
            (temporary / _TAG).write_text(json.dumps(tag))
            self._exchange(run, temporary, old)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedRun(f"manifest.json cannot be read: {error}") from error
        finally:
            for folder in (temporary, old):
                shutil.rmtree(folder, ignore_errors=True)

    def _exchange(self, run: str, new: Path, old: Path) -> None:
        """Put a fetched run in the place of the one in the mirror."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.run_folder(run), old)
        try:
            os.rename(new, self.run_folder(run))
        except OSError:
            # Another process of this machine was faster; its copy has a tag too.
            if not self.run_folder(run).is_dir():
                raise

    def _listing(self, *, fresh: bool = False) -> dict[str, dict[str, Any]]:
        """The objects of every run by their names under it; asked for again after a moment."""
        moment, found = self._listed
        if fresh or time.monotonic() - moment > _LIST_SECONDS:
            found = {}
            for entry in self._entries("runs/"):
                _, run, name = entry["path"].split("/", 2)
                found.setdefault(run, {})[name] = entry
            self._listed = (time.monotonic(), found)
        return found

    def _content(self, key: str) -> bytes | None:
        """The content of an object; None if there is none of that name."""
        try:
            return bytes(self.store.get(key).bytes())
        except FileNotFoundError:
            return None

    def _names(self, prefix: str) -> list[str]:
        return sorted(entry["path"] for entry in self._entries(prefix))

    def _entries(self, prefix: str) -> list[dict[str, Any]]:
        return list(self.store.list(prefix.rstrip("/")).collect())

    def _create(self, key: str, content: bytes) -> str | None:
        """Make an object; its tag, or None if there is one of that name already."""
        from obstore.exceptions import AlreadyExistsError

        try:
            return str(self.store.put(key, content, mode="create")["e_tag"] or "")
        except AlreadyExistsError:
            return None

    def _drop(self, prefix: str) -> None:
        for name in self._names(prefix):
            with contextlib.suppress(FileNotFoundError):
                self.store.delete(name)


def open_place(location: str) -> Place:
    """The place at a path or an address.

    Raises:
        ValueError: the address is of no kind that is known.
        ModuleNotFoundError: the library for object stores is not installed.
    """
    return ObjectPlace(location) if "://" in location else Place(Path(location))


def _listed_problem(manifest: Mapping[str, Any], listed: Mapping[str, Any]) -> str:
    """What the store lacks of a run, by the names and sizes that it lists."""
    for name, entry in manifest["files"].items():
        found = listed.get(f"{manifest.get('stored')}/{name}")
        if found is None:
            return f"{name} is missing"
        if found["size"] != entry["size"]:
            return f"{name} has {found['size']} bytes instead of {entry['size']}"
    return ""


def _pin_key(pin: str) -> str:
    return f"pins/{pin}.tar.gz"


def _packed(folder: Path) -> bytes:
    """A pin as one file, without what Python compiled there."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(folder, arcname=".", filter=lambda info: None if SKIPPED & set(Path(info.name).parts) else info)
    return stream.getvalue()


def _unpack(pin: str, content: bytes, target: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedPin(f"pin {pin}: it cannot be unpacked: {error}") from error


def _open_store(address: str) -> Any:
    try:
        from obstore.store import from_url
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Object stores need the extra `batch`: pip install 'lt-lib[batch]'.") from error
    try:
        return from_url(address)
    except _store_error() as error:
        raise ValueError(f"`place` must be a folder or an address such as s3://bucket/prefix: {error}") from error


def _store_error() -> type[Exception]:
    from obstore.exceptions import BaseError

    return BaseError


def _read(store: Any, key: str) -> tuple[bytes, str, float]:
    """Content, tag and time of an object, all of one state."""
    found = store.get(key)
    return bytes(found.bytes()), found.meta["e_tag"], found.meta["last_modified"].timestamp()
