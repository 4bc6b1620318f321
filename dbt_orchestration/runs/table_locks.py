"""A run waits while another process has the DuckDB file of its warehouse open."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from time import monotonic, sleep

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.invocation import DbtError, DbtTarget
from dbt_orchestration.revisions.warehouse import duckdb_credentials

# Somebody who looks into the file closes it sooner or later; who forgets it is to be told.
_MOST_SECONDS = 3_600.0
_POLL_SECONDS = 2.0
_HOLDER = re.compile(r"Conflicting lock is held in (.+? \(PID \d+\))")


def wait_for_file(log: logging.Logger, target: DbtTarget) -> None:
    """Wait until no other process has the file open that ``target`` writes.

    Args:
        log: is told of what is waited for.

    Raises:
        dagster.Failure: one has had it open for an hour; says which.
    """
    try:
        credentials = duckdb_credentials(target)
    except DbtError:
        return  # dbt will say it
    path = Path(credentials.path) if credentials else Path()
    if not path.is_absolute():
        return  # no DuckDB, or none in a file of this machine
    deadline, said = monotonic() + _MOST_SECONDS, ""
    while holder := _holder(path):
        if monotonic() > deadline:
            raise PlainFailure(
                f"{holder} has had {path} open for {_MOST_SECONDS / 60:.0f} minutes, and DuckDB"
                " lets only one process write it: close it there, and re-execute this run"
            )
        if holder != said:
            said = holder
            log.info(f"Waiting for {holder}, which has {path} open.")
        sleep(_POLL_SECONDS)


def _holder(path: Path) -> str:
    """The other process that has the file open; "" if there is none."""
    import duckdb

    if not path.is_file():
        return ""
    try:
        duckdb.connect(str(path)).close()
    except duckdb.Error as error:  # whatever else it is, dbt will say it
        found = _HOLDER.search(str(error))
        return found[1] if found else ""
    return ""
