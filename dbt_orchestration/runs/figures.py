"""Numbers of what was built: what the warehouse answered, without a query of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dbt_orchestration.ledger.provenance import SECONDS

ROWS, PARTITIONS, BYTES = "rows affected", "partitions", "bytes processed"
# Dagster's own name of the number of rows that a table has.
ROW_COUNT = "dagster/row_count"
# Their statement writes all of their rows.
_WHOLE = frozenset({"table", "seed"})


def number(metadata: Mapping[str, Any] | None, name: str) -> float | None:
    """The number of this name in an event's metadata; None if it has none."""
    value = (metadata or {}).get(name)
    found = value.value if isinstance(value, dg.MetadataValue) else value
    return None if found is None else float(str(found))


def node_figures(data: Mapping[str, Any]) -> dict[str, float]:
    """What a result event says of a node: seconds, rows, bytes; without what is not known."""
    found, rows = _figures(data), _rows(data)
    if rows is not None and data["node_info"].get("materialized") in _WHOLE:
        found[ROW_COUNT] = rows
    return found


def partition_figures(data: Mapping[str, Any], together: int, *, newest: bool) -> dict[str, float]:
    """The same of one of the ``together`` partitions that a statement has built.

    Their seconds are shared out. How many rows each of them got is not known if there are several:
    the ``newest`` has the number for all.
    """
    found = _figures(data)
    seconds = found[SECONDS] / together
    if together > 1:
        found = {**found, PARTITIONS: together} if newest else {}
    return {**found, SECONDS: seconds}


def _figures(data: Mapping[str, Any]) -> dict[str, float]:
    found, rows = {SECONDS: float(data.get("execution_time") or 0.0)}, _rows(data)
    if rows is not None:
        found[ROWS] = rows
    if size := int(data["outcome"]["adapter_response"].get("bytes_processed") or 0):
        found[BYTES] = size
    return found


def _rows(data: Mapping[str, Any]) -> int | None:
    """How many rows the statement wrote that a node, or a batch, was built with."""
    response, kind = data["outcome"]["adapter_response"], data["node_info"].get("materialized")
    if kind == "view" or "rows_affected" not in response:
        return None
    if "rows_inserted" in response:
        return int(response["rows_inserted"] + response.get("rows_updated", 0))
    rows = int(response["rows_affected"])
    # Snowflake answers `create table` with one row, which says that it was created, and only newer
    # versions of its connector say how many were inserted.
    return None if rows == 1 and "query_id" in response else rows
