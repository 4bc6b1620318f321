"""Dagster's own servers, as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import requests

from tests.e2e.running import free_port, until

# A file of a code location, for ``--python-file``.
LOCATION = """\
import dagster as dg

@dg.op
def nothing() -> None: ...

@dg.job
def quiet() -> None:
    nothing()

defs = dg.Definitions(jobs=[quiet])
"""


@contextmanager
def serving(
    folder: Path,
    program: str,
    *options: str,
    up: Callable[[int], bool | None] | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[int]:
    """The port of a server that is started in a folder, whose ``dagster.yaml`` it takes.

    Args:
        up: whether it answers there; None: a webserver does.
        variables: of its environment, besides ours.
    """
    port, answers = free_port(), up or webserver_is_up
    command = [str(Path(sys.executable).with_name(program)), *options, "--port", str(port)]
    with (folder / "servers.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables, "DAGSTER_HOME": str(folder)},
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def webserver_is_up(port: int) -> bool | None:
    try:
        return requests.get(f"http://127.0.0.1:{port}/server_info", timeout=5).ok or None
    except requests.RequestException:
        return None
