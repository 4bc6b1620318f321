"""What ``benchmarks.history`` works on: a project, a clock, and what stands in a DuckDB file."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import duckdb

from benchmarks.soundness_world import LABEL, PROJECT, Relation, State, content, read_files
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.history.partitions import (
    PartitionConfig,
    partition_config,
)

MORE = Path(__file__).parent / "history_project"
DATABASE = "soundness.duckdb"
VARIABLES = {LABEL: "", "HISTORY_FACTOR": "1", "HISTORY_HIDDEN": "1"}


# Leaves whose SQL is for the analysis of it: they take time, and nothing of their past counts. And
# what reads a log of all runs, which says how many there were.
_LEFT_OUT = tuple(
    f"models/marts/{name}.sql"
    for name in (
        "audited",
        *("correlated", "days", "distinct_pairs", "laterals", "natural_pairs", "order_rates"),
        *("pivoted", "rollup", "self_pairs", "semi_anti", "states", "top_renamed"),
    )
)


def first_state(without: Collection[str] = ()) -> State:
    """The project of the soundness benchmark, and models whose past counts; not all its leaves.

    Args:
        without: beginnings of paths of files that are left out.
    """
    files = {**read_files(PROJECT), **read_files(MORE)}
    kept = {p: text for p, text in files.items() if not p.startswith((*_LEFT_OUT, *without))}
    return State(kept, dict(VARIABLES))


@dataclass
class Clock:
    """What time it is for dbt's batches and for partitions. It goes on only when it is told to."""

    now: datetime = datetime(2024, 5, 1, 12, tzinfo=UTC)

    @contextlib.contextmanager
    def ruling(self) -> Iterator[None]:
        """Let dbt and the partitions of models go by this clock.

        Time goes by the machine's clock for everything else, Dagster's events included. So
        partitions end where this clock is, as if their models said so.
        """
        partitions: Any = PartitionConfig
        original, known = partitions.definition.func, dict[Any, dg.TimeWindowPartitionsDefinition]()

        def definition(model: PartitionConfig) -> dg.TimeWindowPartitionsDefinition:
            end = min(model.end or self.now, self.now)
            key = model.batch_size, model.begin, end
            if key not in known:
                known[key] = original(model.model_copy(update={"end": end}))
            return known[key]

        with (
            patch.object(PartitionConfig, "definition", property(definition)),
            patch("dbt.task.run.get_invocation_started_at", lambda: self.now),
        ):
            yield


@dataclass(frozen=True)
class Node:
    """A model, seed or snapshot that has a relation, as dbt parsed it."""

    unique_id: str
    name: str
    relation: str
    config: Mapping[str, Any]
    parents: Collection[str]

    @property
    def kind(self) -> str:
        return self.unique_id.partition(".")[0]

    @property
    def incremental(self) -> bool:
        return bool(self.config.get("materialized") == "incremental")

    @property
    def keeps_history(self) -> bool:
        """Whether its owner says that changes are not for what is there already."""
        said = {"config": self.config, "resource_type": self.kind}
        return HistoryPolicy.of(said).keeps_history

    @cached_property
    def partitions(self) -> PartitionConfig | None:
        said = {"config": self.config, "resource_type": self.kind, "name": self.name}
        return partition_config(said)


Content = Mapping[str, Relation | str]
"""What stands under each name; the error, if it cannot be read."""


@dataclass(frozen=True)
class Whole:
    """A state of the project, built from nothing.

    Attributes:
        nodes: by unique id; ephemeral models are seen through.
        content: by unique id.
    """

    state: State
    nodes: Mapping[str, Node]
    content: Content
    database: Path
    partial_parse: Path


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What dbt does inside leaves nothing in this process: as if the process had ended."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    before = dict(os.environ)
    # A run that was interrupted leaves frames in a cycle, and they hold its connections.
    gc.collect()
    DuckDBConnectionManager.close_all_connections()
    try:
        yield
    finally:
        DuckDBConnectionManager.close_all_connections()
        os.environ.clear()
        os.environ.update(before)


def read(database: Path, nodes: Mapping[str, Node]) -> Content:
    """What stands in a DuckDB file under the names of these nodes."""
    found: dict[str, Relation | str] = {}
    with alone(), duckdb.connect(str(database), read_only=True) as connection:
        views = {
            name
            for (name,) in connection.execute(
                "select lower(schema_name || '.' || view_name) from duckdb_views()"
            ).fetchall()
        }
        for unique_id, node in nodes.items():
            schema, table = (part.replace('"', '""') for part in node.relation.split(".", 1))
            kind = "view" if node.relation in views else "table"
            try:
                query = f'select * from "{schema}"."{table}"'
                found[unique_id] = content(connection, query, kind, volatile=False)
            except duckdb.Error as error:
                found[unique_id] = f"cannot be read: {str(error).splitlines()[0]}"
    return found


def differ(one: Relation | str, other: Relation | str) -> str:
    """How two contents differ; "" if they do not."""
    if isinstance(one, str) or isinstance(other, str):
        return "" if one == other else f"{_shown(one)} became {_shown(other)}"
    return one.difference(other)


def _shown(said: Relation | str) -> str:
    return said if isinstance(said, str) else f"a {said.kind}"


def reads(nodes: Mapping[str, Node], unique_id: str) -> set[str]:
    """Everything that a node reads, and what that reads."""
    found: set[str] = set()
    waiting = [unique_id]
    while waiting:
        new = set(nodes[waiting.pop()].parents) & nodes.keys() - found
        found |= new
        waiting += new
    return found
