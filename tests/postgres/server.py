"""A real PostgreSQL, from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def postgresql() -> Iterator[str]:
    """A server in a folder of its own, started by an ordinary user: PostgreSQL refuses root.

    Gives the URL of a database that is empty.
    """
    # Not under pytest's folders: those are closed to other users.
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    if user:
        shutil.chown(home, "nobody")
    data, port = str(home / "data"), free_port()

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)

    run(program("initdb"), "-D", data, "-U", "dagster", "--auth=trust", "--no-sync")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(program("pg_ctl"), "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgres://dagster:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        run(program("pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
