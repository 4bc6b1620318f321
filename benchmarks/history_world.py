"""What a commit is when dbt alone builds it from nothing: what ``benchmarks.history`` expects.

The same project, the same data and the same clock, in a DuckDB file of its own. dbt parses the
files itself, from the same first parse each time, so that nothing of how an environment came to
where it is can matter.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import duckdb

from benchmarks.soundness_world import LABEL, PROJECT, SOURCES, Relation, State, content, read_files
from dbt_orchestration import upstream
from dbt_orchestration.changes.actions import Partitioned
from dbt_orchestration.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.partitions.config import (
    PartitionConfig,
    PartitionError,
    partition_config,
)

MORE = Path(__file__).parent / "history_project"
DATABASE = "soundness.duckdb"
VARIABLES = {LABEL: "", "HISTORY_FACTOR": "1", "HISTORY_HIDDEN": "1"}

_QUIET = ("--quiet", "--log-level=none", "--no-write-json")
_NO_TESTS = ("--exclude-resource-type", "test", "unit_test")
_BUILD_SECONDS = 60
# Of states that were built: chains go back to earlier ones.
_KEEP = 8


# Leaves whose SQL is for the analysis of it: they take time, and nothing of their past counts.
_LEFT_OUT = frozenset(
    f"models/marts/{name}.sql"
    for name in (
        *("correlated", "days", "distinct_pairs", "laterals", "natural_pairs", "order_rates"),
        *("pivoted", "rollup", "self_pairs", "semi_anti", "states", "top_renamed"),
    )
)


def first_state() -> State:
    """The project of the soundness benchmark, with models whose past counts, without some others."""
    files = {**read_files(PROJECT), **read_files(MORE)}
    return State({p: text for p, text in files.items() if p not in _LEFT_OUT}, dict(VARIABLES))


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
        return self.incremental and Partitioned.of(said).forward_only

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


class NotBuiltError(Exception):
    """dbt cannot parse or build a state from nothing."""


@dataclass
class Nothing:
    """Builds states of the project from nothing, one after the other, in ``root``."""

    root: Path
    clock: Clock
    _written: dict[str, str] = field(default_factory=dict)
    _count: int = 0
    _kept: list[Path] = field(default_factory=list)
    _built: list[tuple[Whole, datetime]] = field(default_factory=list)

    @property
    def project_dir(self) -> Path:
        return self.root / "project"

    def build(self, state: State, *, cold: bool = False) -> Whole:
        """Build ``state``, unless that was done a short while ago.

        Args:
            cold: parse every file anew.

        Raises:
            NotBuiltError: dbt says no.
        """
        for whole, now in self._built:
            if whole.state == state and now == self.clock.now and not cold:
                return whole
        whole = self._build(state, cold)
        if not cold:
            self._built = [*self._built[:1], *self._built[-_KEEP:], (whole, self.clock.now)]
        return whole

    def _build(self, state: State, cold: bool) -> Whole:
        self._count += 1
        home = self.root / str(self._count)
        home.mkdir(parents=True)
        self._kept.append(home)
        used = [home, *(whole.database.parent for whole, _ in self._built)]
        for old in [folder for folder in self._kept if folder not in used]:
            shutil.rmtree(old)
            self._kept.remove(old)
        if not cold and len(self._kept) > 1:
            shutil.copy(self._kept[0] / "partial_parse.msgpack", home)
        self._write(state)
        self._install_packages(state)
        manifest = self._dbt(state, ("parse", "--target-path", str(home), *_QUIET))
        nodes = dict(_nodes(manifest))
        database = home / DATABASE
        with duckdb.connect(str(database)) as connection:
            connection.execute(SOURCES)
        try:
            windows = self._windows(nodes)
        except PartitionError as error:
            raise NotBuiltError(str(error)) from None
        command = (
            "build",
            "--full-refresh",
            "--fail-fast",
            *_NO_TESTS,
            "--no-populate-cache",
            *_QUIET,
        )
        self._dbt(state, (*command, *windows), database, manifest)
        found = read(database, nodes)
        if wrong := [f"{u}: {said}" for u, said in found.items() if isinstance(said, str)]:
            raise NotBuiltError("; ".join(wrong))
        return Whole(state.copy(), nodes, found, database, home / "partial_parse.msgpack")

    def again(
        self,
        whole: Whole,
        database: Path,
        unique_ids: Collection[str],
        *,
        full_refresh: bool = True,
        turned: Collection[str] = (),
    ) -> Content:
        """What these nodes are when dbt has built them once more, in a copy of ``database``.

        Args:
            turned: tables whose rows are put into the opposite order before.

        Raises:
            NotBuiltError: dbt says no.
        """
        copy = self.root / "again" / DATABASE
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        shutil.copy(database, copy)
        _turn(copy, turned)
        self._write(whole.state)
        manifest = upstream.load_manifest(whole.partial_parse)
        names = [f"fqn:{'.'.join(manifest.nodes[u].fqn)}" for u in sorted(unique_ids)]
        refresh = ("--full-refresh",) if full_refresh else ()
        command = ("build", *_NO_TESTS, *_QUIET, *refresh, *self._windows(whole.nodes))
        self._dbt(whole.state, (*command, "--select", *names), copy, manifest)
        return read(copy, {u: whole.nodes[u] for u in unique_ids})

    def _windows(self, nodes: Mapping[str, Node]) -> tuple[str, ...]:
        """The vars that let models which read their window from vars build all their partitions."""
        said: dict[str, str] = {}
        for node in nodes.values():
            model = node.partitions
            if not model or not model.start_var or not model.end_var:
                continue
            if keys := model.definition.get_partition_keys():
                windows = [model.definition.time_window_for_partition_key(k) for k in keys]
                start, end = windows[0].start, windows[-1].end
                for name, time in ((model.start_var, start), (model.end_var, end)):
                    said[name] = time.strftime("%Y-%m-%dT%H:%M:%S")
        return ("--vars", json.dumps(said)) if said else ()

    def _install_packages(self, state: State) -> None:
        shutil.rmtree(self.project_dir / "dbt_packages", ignore_errors=True)
        if "packages.yml" in state.files:
            (self.project_dir / "package-lock.yml").unlink(missing_ok=True)
            self._dbt(state, ("deps", "--quiet", "--log-level=none"))

    def _write(self, state: State) -> None:
        for path in self._written.keys() - state.files.keys():
            (self.project_dir / path).unlink()
        for path, text in state.files.items():
            if self._written.get(path) != text:
                (self.project_dir / path).parent.mkdir(parents=True, exist_ok=True)
                (self.project_dir / path).write_bytes(text.encode())
        self._written = dict(state.files)

    def _dbt(
        self,
        state: State,
        command: tuple[str, ...],
        database: Path | None = None,
        manifest: Any = None,
    ) -> Any:
        path = database or self.root / DATABASE
        variables = {"DBT_DUCKDB_PATH": str(path), **state.environment}
        target = DbtTarget(
            self.project_dir, self.root / "logs", self.project_dir, variables=variables
        )
        if command[0] == "build":
            command = (*command, "--target-path", str(self.root / "target"))
        # An edit may make a recursion without end: that is an edit dbt cannot build.
        watchdog = threading.Timer(_BUILD_SECONDS, upstream.cancel_queries)
        with contextlib.redirect_stdout(io.StringIO()), alone(), _without_log():
            watchdog.start()
            try:
                return DbtInvocation(target, list(command), manifest).finish()
            except DbtError as error:
                raise NotBuiltError(f"dbt {command[0]}: {error}") from None
            finally:
                watchdog.cancel()


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """dbt makes no message of what is for its log only: that takes a fifth of its time."""
    from dbt_common.events.base_types import EventLevel
    from dbt_common.events.event_manager import EventManager

    fire = EventManager.fire_event

    def quiet(manager: Any, e: Any, *more: Any, **named: Any) -> None:
        if e.level_tag() not in (EventLevel.DEBUG, EventLevel.INFO):
            fire(manager, e, *more, **named)

    with patch.object(EventManager, "fire_event", quiet):
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What dbt does inside leaves nothing in this process: as if the process had ended."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    before = dict(os.environ)
    DuckDBConnectionManager.close_all_connections()
    try:
        yield
    finally:
        DuckDBConnectionManager.close_all_connections()
        os.environ.clear()
        os.environ.update(before)


def _turn(database: Path, tables: Collection[str]) -> None:
    with duckdb.connect(str(database)) as connection:
        for name in sorted(tables):
            schema, table = (f'"{part}"' for part in name.split(".", 1))
            connection.execute(f"create temp table turned as from {schema}.{table}")
            connection.execute(f"delete from {schema}.{table}")
            connection.execute(
                f"insert into {schema}.{table} select * from turned order by rowid desc"
            )
            connection.execute("drop table turned")


def _nodes(manifest: Any) -> Iterator[tuple[str, Node]]:
    def parents(unique_id: str) -> Iterator[str]:
        for parent in manifest.nodes[unique_id].depends_on_nodes:
            if parent in manifest.nodes:
                is_seen_through = manifest.nodes[parent].config.materialized == "ephemeral"
                yield from parents(parent) if is_seen_through else (parent,)

    for unique_id, node in manifest.nodes.items():
        if node.resource_type in ("model", "seed", "snapshot"):
            config = node.config.to_dict(omit_none=False)
            if config.get("materialized") != "ephemeral":
                relation = f"{node.schema}.{node.alias}".lower()
                above = frozenset(parents(unique_id))
                yield unique_id, Node(unique_id, node.name, relation, config, above)


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
