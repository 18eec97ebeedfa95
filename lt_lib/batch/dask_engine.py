"""Attempts placed by Dask: workers on this machine, or those of a scheduler that runs already."""

import contextlib
import ipaddress
import itertools
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lt_lib.batch.engines import AttemptProcess, EngineError

# Set for each worker that we start: what its kernels see as CUDA_VISIBLE_DEVICES.
DEVICES_VARIABLE = "LT_BATCH_DEVICES"
_SLOTS_AGE = 1.0
# A worker does nothing but wait for a process. That Dask watches itself every few milliseconds meanwhile took 12 % of a
# core for two workers and their scheduler; so it takes 2 %.
_SETTINGS = {
    "logging.distributed": "critical",
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
_LOST = "The scheduler was lost. What is done stays done; run the same command to go on."
_HELP = "The Dask engine needs the extra `batch`: pip install 'lt-lib[batch]'. Without it, use --scheduler sequential."


# A terminal sends Ctrl-C to all processes of a command. The driver answers it and stops the workers; a worker that
# answered too would die with a page of traceback.
_DEAF_TO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def run_on_worker(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker does for one attempt: start its process and wait.

    Args:
        task: see `lt_lib.batch.driver.make_task`.

    Returns:
        The attempt's report.
    """
    devices = os.environ.get(DEVICES_VARIABLE)
    attempt = AttemptProcess({**task, "devices": task["devices"] if devices is None else devices})
    attempt.wait()
    return attempt.report()


class DaskEngine:
    """Attempts as tasks of Dask, never more at once than there are workers.

    Every task is pushed only when a worker is free: Dask then has nothing to move about, and the death of a worker
    touches one run. What is done is known from the place, never from Dask.

    Args:
        client: a connected `distributed.Client`.
        cluster: what to close with it, None if the scheduler is somebody else's.
        worker_timeout: seconds without a worker after which the engine gives up.
    """

    def __init__(self, client: Any, cluster: Any = None, *, worker_timeout: float = 60.0) -> None:
        self._client, self._cluster, self._worker_timeout = client, cluster, worker_timeout
        self._futures: dict[Any, str] = {}
        self._numbers = itertools.count()
        self._slots, self._asked, self._none_since = 0, 0.0, time.monotonic()

    @property
    def slots(self) -> int:
        """See `Engine`."""
        now = time.monotonic()
        if now - self._asked > _SLOTS_AGE:
            try:
                self._slots = sum(self._client.nthreads().values())
            except Exception as error:  # the connection breaks in many ways
                raise EngineError(f"The scheduler was lost: {error}") from error
            self._asked = now
            # Counted from the first look that found none: a worker that starts anew is no reason to end, however long
            # ago the look before that was.
            self._none_since = math.inf if self._slots else min(self._none_since, now)
            if now - self._none_since > self._worker_timeout:
                raise EngineError(f"No worker has joined the scheduler for {self._worker_timeout:g} s.")
        return self._slots

    def submit(self, task: Mapping[str, Any]) -> None:
        """See `Engine`."""
        key = f"attempt-{task['run']}-{task['session']}-{next(self._numbers)}"
        self._futures[self._client.submit(run_on_worker, dict(task), key=key, pure=False)] = str(task["run"])

    def collect(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """See `Engine`."""
        from distributed import wait

        if not self._futures:
            time.sleep(seconds)
            return []
        try:
            with contextlib.suppress(TimeoutError), self._client.as_current():
                wait(list(self._futures), timeout=seconds, return_when="FIRST_COMPLETED")
        except Exception as error:  # the futures of a lost scheduler are cancelled, and more may go wrong with it
            raise EngineError(_LOST) from error
        found = []
        for future in [future for future in self._futures if future.done()]:
            run = self._futures.pop(future)
            if future.cancelled() or self._client.status not in ("running", "connecting"):
                raise EngineError(_LOST)
            found.append((run, self._report(future)))
            future.release()
        return found

    def close(self, *, kill: bool = False) -> None:
        """See `Engine`. The attempts see the driver's mark in the place, and end by themselves."""
        limit = time.monotonic() + (0.0 if kill else 10.0)
        while self._futures and time.monotonic() < limit and self._client.status == "running":
            with contextlib.suppress(Exception):
                self.collect(0.1)
        for thing in (self._client, self._cluster):
            if thing is not None:
                with contextlib.suppress(Exception):
                    thing.close(timeout=5)

    def _report(self, future: Any) -> dict[str, Any]:
        if future.status == "finished":
            return dict(future.result())
        error = future.exception()
        return {"kind": "worker-lost", "message": f"{type(error).__name__}: {error}".splitlines()[0]}


def local_engine(devices: Sequence[str]) -> DaskEngine:
    """Start workers on this machine, reachable from this machine alone.

    Args:
        devices: for each worker what its kernels see as `CUDA_VISIBLE_DEVICES`.

    Returns:
        The engine.

    Raises:
        EngineError: Dask is not installed or does not start.
    """
    distributed = _distributed()
    workers = {
        number: {
            "cls": distributed.Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,
                "env": {DEVICES_VARIABLE: visible},
                "preload": [_DEAF_TO_CTRL_C],
            },
        }
        for number, visible in enumerate(devices)
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": ":0"},
    }
    try:
        cluster = distributed.SpecCluster(workers=workers, scheduler=scheduler, asynchronous=False)
        return DaskEngine(distributed.Client(cluster, set_as_default=False), cluster)
    except Exception as error:  # whatever keeps it from starting
        raise EngineError(f"Dask did not start on this machine: {error}") from error


def remote_engine(address: str, *, worker_timeout: float = 60.0) -> DaskEngine:
    """Use a scheduler that runs already.

    Args:
        address: `tcp://127.0.0.1:8786`, `tls://head:8786`, or the path of a scheduler file.
        worker_timeout: seconds without a worker after which to give up.

    Returns:
        The engine.

    Raises:
        ValueError: the address leaves this machine without encryption, since whoever reaches a scheduler can run code
            on it; or it is encrypted and no certificates are set.
        EngineError: nothing answers there, or the file is none that a scheduler wrote.
    """
    reached = scheduler_address(address)
    check_address(reached)
    distributed = _distributed()
    check_address(reached, certificates=True)
    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        client = distributed.Client(**where, timeout=15, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise EngineError(f"No scheduler answers at {address}: {error}") from error
    return DaskEngine(client, worker_timeout=worker_timeout)


def scheduler_address(given: str) -> str:
    """The address of a scheduler, which may be in a scheduler file.

    Args:
        given: the address, or the path of the file.

    Raises:
        EngineError: there is a file, but no scheduler wrote it, or has written it yet.
    """
    if not Path(given).is_file():
        return given
    try:
        content = json.loads(Path(given).read_bytes())
        reason = "it holds no `address`"
    except (OSError, ValueError) as error:
        content, reason = None, str(error)
    address = content.get("address") if isinstance(content, dict) else None
    if not isinstance(address, str):
        raise EngineError(f"`scheduler` must be a file that a Dask scheduler wrote, got {given!r}: {reason}.")
    return address


def check_address(address: str, *, certificates: bool = False) -> None:
    """Refuse an address that is not of the form `tls://…`, unless it stays on this machine.

    Args:
        address: of a scheduler.
        certificates: also look whether Dask's configuration names the files that an encrypted connection needs.

    Raises:
        ValueError: for such an address.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    host = parts.hostname or ""
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if parts.scheme not in ("tcp", "tls") or not host or parts.port is None:
        raise ValueError(f"`scheduler` must be tcp://HOST:PORT, tls://HOST:PORT or a scheduler file, got {address!r}.")
    if parts.scheme == "tcp" and not loopback:
        raise ValueError(
            f"`scheduler` must be tls://… off this machine, because whoever reaches a scheduler can run code on its "
            f"workers, got {address!r}. Certificates are set in Dask's configuration, `distributed.comm.tls`."
        )
    if parts.scheme == "tls" and certificates:
        import dask

        for key in ("ca-file", "client.cert", "client.key"):
            file = dask.config.get(f"distributed.comm.tls.{key}", default=None)
            if not file or not Path(file).is_file():
                variable = "DASK_DISTRIBUTED__COMM__TLS__" + key.replace("-", "_").replace(".", "__").upper()
                raise ValueError(
                    f"`distributed.comm.tls.{key}` must name a file in Dask's configuration, or in the variable "
                    f"{variable}, for {address}, got {file!r}."
                )


def _distributed() -> Any:
    try:
        import dask

        # Dask reports every connection; what concerns a run is in the place. Logging is set up by the first import of
        # `distributed`, in the workers too, which take this from the environment.
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
        dask.config.set(_SETTINGS)
        import distributed
    except ModuleNotFoundError as error:
        raise EngineError(_HELP) from error
    return distributed
