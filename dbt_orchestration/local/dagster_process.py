"""Dagster's own processes, on one machine: one Dagster for each ``DAGSTER_HOME``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import dagster as dg
import requests
from rich.console import Console

from dbt_orchestration.ledger.attempts import UNFINISHED
from dbt_orchestration.local.begin import workspace
from dbt_orchestration.runs import liveness
from dbt_orchestration.settings.models import root

HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_START_SECONDS = 180
_STOP_SECONDS = 60
_WATCH_SECONDS = 5
_UNREACHABLE = "Could not reach user code server"
_LOCATIONS = """query { workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


class LaptopError(RuntimeError):
    """``up`` or ``demo`` cannot go on. One message that says why and what to do."""


@dataclass(frozen=True)
class Home:
    """The ``DAGSTER_HOME`` of the one Dagster that this process may start in it.

    Attributes:
        lock: a file that is locked by this process and by the Dagster that it starts.
    """

    path: Path
    lock: IO[str]

    @property
    def log(self) -> Path:
        """What Dagster prints."""
        return self.path / "dagster.log"

    @classmethod
    @contextlib.contextmanager
    def of(cls, path: Path, console: Console) -> Iterator[Home]:
        """Take the lock. If a Dagster has it whose starter was killed, end all of that first."""
        with (path / "dagster.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.print("Dagster is still there, and what had started it is not: ending it.")
                lock.seek(0)
                _kill_group(int(lock.read()))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield cls(path, lock)


def _kill_group(group: int) -> None:
    """Kill a group of processes, and wait until they have let go of their ports and files."""
    deadline = time.monotonic() + _STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
        while _works(group) and time.monotonic() < deadline:
            time.sleep(0.1)


def _works(group: int) -> bool:
    """Whether a process of a group is there that is not only still to be waited for."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    found = (line.split() for line in listed.splitlines())
    return any(int(pgid) == group and not stat.startswith("Z") for pgid, stat in found)


_interrupted = threading.Event()


def stop_if_interrupted() -> None:
    """Raise again what Python loses where it comes in the middle of a finalizer.

    Raises:
        KeyboardInterrupt: somebody has pressed Ctrl-C.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and a closed terminal end as Ctrl-C does, also if a shell ignores them."""

    def interrupt(*_: object) -> None:
        _interrupted.set()
        raise KeyboardInterrupt

    _interrupted.clear()
    previous = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def dagster_dev(
    home: Home,
    port: int,
    instance: dg.DagsterInstance,
    console: Console,
    *,
    environments: Iterable[str],
    variables: Mapping[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """Webserver, daemon and code locations, in a session of their own, stopped at the end.

    They are being started: see ``wait_until_loaded``.

    Args:
        home: of which this process has the lock.
        environments: those that are code locations.
        variables: environment variables that it gets with those of this process.
    """
    command = [sys.executable, "-m", "dbt_orchestration.local.dagster_dev", "--host", HOST]
    command += ["--port", str(port)]
    command += ["--workspace", str(home.path / "workspace.yaml")]
    (home.path / "workspace.yaml").write_text(workspace(environments), encoding="utf-8")
    _end_runs(instance)
    with home.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=root(),
            env=os.environ | {"DAGSTER_HOME": str(home.path), **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[home.lock.fileno()],  # held for as long as it lives, whatever becomes of us
        )
    home.lock.truncate(0)
    home.lock.write(str(process.pid))
    home.lock.flush()
    try:
        yield process
    finally:
        # Pressed again, Ctrl-C must not leave a daemon behind that holds the port.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
        with console.status("Stopping …"):
            _stop(process, instance, port)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end_runs(instance: dg.DagsterInstance) -> None:
    """End the runs that nobody works on any more: no other Dagster is on this instance.

    Dagster then does with each what it does with any run whose process died: a build is resumed.
    """
    begun = [status for status in UNFINISHED if status is not dg.DagsterRunStatus.QUEUED]
    for run in instance.get_runs(dg.RunsFilter(statuses=begun)):
        liveness.end(instance, run.run_id)
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "It was being stopped when Dagster was killed.")
        else:
            instance.report_run_failed(run, "Its process ended when Dagster was killed.")


def wait_until_loaded(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until all code locations are there.

    Raises:
        LaptopError: Dagster does not start, or a code location does not load.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        stop_if_interrupted()
        if process.poll() is not None:
            raise LaptopError(f"Dagster did not start: see {log}")
        entries = _location_entries(port)
        broken = [
            f"{entry['name']}: {entry['locationOrLoadError']['message']}"
            for entry in entries
            if (entry["locationOrLoadError"] or {}).get("__typename") == "PythonError"
        ]
        if broken:
            raise LaptopError("\n".join(broken))
        if entries and all(entry["loadStatus"] == "LOADED" for entry in entries):
            return
        time.sleep(0.3)
    raise LaptopError(f"Dagster did not start within {_START_SECONDS} s: see {log}")


def watch(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until Dagster ends. Until then reload code locations whose server was killed.

    Dagster starts a code server again whose parent is alive, but only when it is told to reload.
    """
    from dagster_graphql import DagsterGraphQLClient  # takes half a second

    lost: set[str] = set()
    while True:
        stop_if_interrupted()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_WATCH_SECONDS)
            return
        before, lost = (
            lost,
            {
                entry["name"]
                for entry in _location_entries(port)
                if _UNREACHABLE in ((entry["locationOrLoadError"] or {}).get("message") or "")
            },
        )
        for name in lost & before:
            with contextlib.suppress(Exception):  # it is tried again, as long as it is lost
                DagsterGraphQLClient(HOST, port_number=port).reload_repository_location(name)


def _location_entries(port: int) -> list[dict[str, Any]]:
    try:
        answer = requests.post(
            f"http://{HOST}:{port}/graphql", json={"query": _LOCATIONS}, timeout=10
        ).json()
        entries: list[dict[str, Any]] = answer["data"]["workspaceOrError"]["locationEntries"]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return []
    return entries


def _stop(process: subprocess.Popen[bytes], instance: dg.DagsterInstance, port: int) -> None:
    unfinished = dg.RunsFilter(
        statuses=[
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.STARTED,
            dg.DagsterRunStatus.CANCELING,
        ]
    )
    from dagster_graphql import DagsterGraphQLClient

    deadline = time.monotonic() + _STOP_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            runs = [run.run_id for run in instance.get_runs(unfinished)]
            if not runs:
                break
            with contextlib.suppress(Exception):  # a run that just ended is no reason not to stop
                DagsterGraphQLClient(HOST, port_number=port).terminate_runs(runs)
            time.sleep(0.5)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STOP_SECONDS)
    finally:
        _kill_group(process.pid)
        process.wait()
