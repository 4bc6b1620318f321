"""A real PostgreSQL, from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.running import free_port

PASSWORD = "s3cret"


def program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else shutil.which(name)
    if not path:
        pytest.skip("no PostgreSQL here: apt install postgresql")
    return path


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: of a database that is empty; other hosts of this machine's networks may connect, too.
        restart: stops it, whoever is connected, and starts it again.
    """

    url: str
    restart: Callable[[], None]


@contextmanager
def postgresql() -> Iterator[Server]:
    """A server in a folder of its own, started by an ordinary user: PostgreSQL refuses root."""
    # Not under pytest's folders: those are closed to other users.
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    if user:
        shutil.chown(home, "nobody")
    data, port = str(home / "data"), free_port()

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)

    run(program("initdb"), "-D", data, "-U", "dagster", "--auth=trust", "--no-sync")
    run("sh", "-c", f"echo host all all samenet trust >> {data}/pg_hba.conf")
    options = f"-p {port} -k {home} -c listen_addresses=* -c fsync=off"
    control = [program("pg_ctl"), "-D", data, "-w", "-l", str(home / "log"), "-o", options]
    run(*control, "start")
    try:
        yield Server(
            f"postgres://dagster:{PASSWORD}@127.0.0.1:{port}/postgres",
            lambda: run(*control, "-m", "fast", "restart"),
        )
    finally:
        run(program("pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
