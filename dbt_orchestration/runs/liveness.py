"""Whether the process of a run is alive, on one machine.

A run holds a lock on a file for as long as its process lives: the operating system lets go of it,
however the process ends.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

_END_SECONDS = 60
_held: dict[Path, FileLock] = {}


def hold(instance: dg.DagsterInstance, run_id: str) -> None:
    """Hold the lock of a run until this process ends, or begins with another run."""
    path = _lock(instance, run_id)
    if path in _held:
        return
    for earlier in list(_held):
        _held.pop(earlier).release()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with suppress(Timeout):  # an earlier step of the run, in a process of its own
        lock.acquire(blocking=False)
        _pid(path).write_text(str(os.getpid()))
        _held[path] = lock


def is_alive(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process holds the lock of the run."""
    path = _lock(instance, run_id)
    if not _pid(path).is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def end(instance: dg.DagsterInstance, run_id: str) -> None:
    """Kill the process of the run, if it is alive, and wait until it is gone."""
    if is_alive(instance, run_id):
        path = _lock(instance, run_id)
        with suppress(ProcessLookupError):
            os.kill(int(_pid(path).read_text()), signal.SIGKILL)
        with FileLock(path, timeout=_END_SECONDS):
            pass


def _lock(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.storage_directory()) / run_id / "alive.lock"


def _pid(lock: Path) -> Path:
    return lock.with_suffix(".pid")
