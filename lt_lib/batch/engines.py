"""What starts attempts: the common interface, and the engine that needs nothing but this machine."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# Seconds that an attempt has to clean up after it was told to stop.
GRACE = 10.0


class EngineError(RuntimeError):
    """The engine cannot start, has no workers, or was lost. Runs that are done stay done."""


class Engine(Protocol):
    """Starts attempts somewhere, and tells how they ended. It keeps no other truth."""

    @property
    def slots(self) -> int:
        """How many attempts can run at once now; asked all the time, also while none shall start.

        Raises:
            EngineError: there has been no worker for too long.
        """

    def submit(self, task: Mapping[str, Any]) -> None:
        """Start an attempt."""

    def collect(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """Ends of attempts, as pairs of run and report; waits at most `seconds` for the first.

        Raises:
            EngineError: the engine was lost.
        """

    def close(self, *, kill: bool = False) -> None:
        """End all attempts and everything that was started for them.

        Args:
            kill: end the attempts at once, for a `close` that waits for them in another thread.
        """


class AttemptProcess:
    """An attempt in a child process of ours.

    Args:
        task: see `lt_lib.batch.driver.make_task`.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.run = str(task["run"])
        self._errors = tempfile.TemporaryFile()
        # In a session of its own, so that Ctrl-C reaches the driver alone.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lt_lib.batch.attempt"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._output = b""
        self._report: dict[str, Any] | None = None
        self._reporting = threading.Lock()
        # Read all the time: an attempt that meets a full pipe would not end.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write((json.dumps(task) + "\n").encode())
            self._process.stdin.flush()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the attempt has ended, after at most that time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def report(self) -> dict[str, Any]:
        """How the attempt ended; call it after `wait` said so."""
        with self._reporting:
            if self._report is None:
                self._report = self._take_report()
            return self._report

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self._output = output.read()

    def _take_report(self) -> dict[str, Any]:
        self._reader.join()
        lines = self._output.decode(errors="replace").splitlines()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        if lines:
            with contextlib.suppress(ValueError):
                return dict(json.loads(lines[-1]))
        code = self._process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        message = f"the attempt's process ended with {how}" + (f": {errors[-1]}" if errors else "")
        return {"kind": "worker-lost", "message": message}

    def stop(self) -> None:
        """Tell the attempt to clean up and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End the attempt at once; its kernel dies with it."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class ProcessEngine:
    """Attempts as child processes of the driver, a fixed number at once. Needs no Dask.

    Args:
        slots: attempts at once.
        devices: for each slot what its kernels see as `CUDA_VISIBLE_DEVICES`; None leaves it as it is.
    """

    def __init__(self, slots: int = 1, devices: Sequence[str | None] = ()) -> None:
        self._devices: list[str | None] = list(devices) if devices else [None] * slots
        self._running: dict[AttemptProcess, str | None] = {}
        self._slots = slots

    @property
    def slots(self) -> int:
        """See `Engine`."""
        return self._slots

    def submit(self, task: Mapping[str, Any]) -> None:
        """See `Engine`."""
        device = self._devices.pop()
        chosen = task["devices"] if device is None else device
        self._running[AttemptProcess({**task, "devices": chosen})] = device

    def collect(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """See `Engine`."""
        limit = time.monotonic() + seconds
        while True:
            ended = [attempt for attempt in self._running if attempt.wait(0)]
            if ended or time.monotonic() > limit or not self._running:
                break
            next(iter(self._running)).wait(0.02 if len(self._running) > 1 else min(0.2, seconds))
        for attempt in ended:
            self._devices.append(self._running.pop(attempt))
        return [(attempt.run, attempt.report()) for attempt in ended]

    def close(self, *, kill: bool = False) -> None:
        """See `Engine`."""
        running = list(self._running)
        for attempt in running:
            attempt.kill() if kill else attempt.stop()
        if kill:
            return
        limit = time.monotonic() + GRACE
        for attempt in running:
            if not attempt.wait(max(0.0, limit - time.monotonic())):
                attempt.kill()
                attempt.wait(5)
            attempt.report()
        self._running.clear()
