"""A disk is full for a while: what is wrong is said, and once there is room it goes on by itself.

The disk is a small one of its own (tmpfs), which only a process that it is mounted in can see.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.dbt.invocation import DbtInvocation
from dbt_orchestration.revisions import follow
from dbt_orchestration.runs.execute import Build
from tests.automation.site import Site, prepared_here
from tests.conftest import clean_environment
from tests.faults.shop import End, dagster_in

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_MEGABYTES = 100


def _mount(folder: Path) -> None:
    """Mount a small disk on ``folder``, for this process alone.

    Raises:
        OSError: this machine does not let us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.getuid()
    flags = _NEW_MOUNTS if own == 0 else _NEW_MOUNTS | _NEW_USER
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    if own:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {own} 1")
    private = 1 << 18 | 1 << 14  # nobody else sees it
    if libc.mount(b"none", b"/", None, private, None) or libc.mount(
        b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={_MEGABYTES}m".encode()
    ):
        raise OSError(ctypes.get_errno(), "mount")


def _may_mount(folder: Path) -> bool:
    try:
        _mount(folder)
    except OSError:
        return False
    return True


def _elsewhere(function: Any, *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.faults.test_full_disk", "dbt.cli.main"])
    with ProcessPoolExecutor(1, forks) as pool:
        return pool.submit(function, *arguments).result()


def _fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as filler:
        for size in (2**20, 2**12):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                pass


@contextmanager
def preparing(state: Path, moment: str) -> Iterator[None]:
    """The disk is full when the process that prepares says this."""
    log = follow._log

    def fill(doing: str) -> None:
        log(doing)
        if doing == moment:
            _fill(state)

    with patch.object(follow, "_log", fill):
        yield


@contextmanager
def running(state: Path, moment: str) -> Iterator[None]:
    """The disk is full when a run begins, or once dbt has built this node."""
    owner, name = (Build, "run") if moment == "begin" else (DbtInvocation, "_on_event")
    before = getattr(owner, name)

    def fill(self: Any, *arguments: Any) -> Any:
        if moment == "begin" or f"OK created sql table model main.{moment}" in str(
            arguments[0].info.msg
        ):
            _fill(state)
        return before(self, *arguments)

    with patch.object(owner, name, fill):
        yield


PLACES = {
    "when git fetches": (preparing, "fetching"),
    "when it checks out": (preparing, "checking out"),
    "when dbt parses": (preparing, "parsing"),
    "when it compiles": (preparing, "analysing"),
    "when it compares": (preparing, "explaining"),
    "when a run begins": (running, "begin"),
    "in the middle of a run": (running, "customers"),
}


@pytest.mark.parametrize(("when", "moment"), PLACES.values(), ids=PLACES)
def test_it_goes_on_once_there_is_room(
    shop: Path, tmp_path: Path, undisturbed: End, when: Any, moment: str
) -> None:
    if not _elsewhere(_may_mount, tmp_path):
        pytest.skip("no tmpfs may be mounted here, not even as root of a user namespace")
    said, end = _elsewhere(_live, shop / "pushed", tmp_path, when, moment)
    assert f"the disk of {tmp_path}" in said
    assert "is full" in said
    assert end == undisturbed


def _live(pushed: Path, home: Path, when: Any, moment: str) -> tuple[str, End]:
    clean_environment(pytest.MonkeyPatch())
    sys.stdout = sys.stderr = (home / "run.log").open("w")
    shutil.copytree(pushed, home, dirs_exist_ok=True, symlinks=True)
    state = home / "state"
    kept = state.rename(home / "kept")
    state.mkdir()
    _mount(state)
    shutil.copytree(kept, state, dirs_exist_ok=True, symlinks=True)
    with prepared_here(), dagster_in(home) as instance:
        site = Site.of(home, instance)
        with when(state, moment):
            said = site.build_all()
        adapters.close_duckdb()  # as the process of the run does, which has ended
        (state / "filler").unlink()
        follow._RETRY_SECONDS = 0
        site.cursors.clear()
        then = site.build_all()
        assert "nothing is due" in then, f"{said} AND THEN {then}"
        return said, End.of(site)
