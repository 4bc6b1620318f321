"""A copy of the project that ``benchmarks.soundness`` edits, and the worlds that dbt builds of it.

A *world* is one state of the project: what the change engine says of it, and what a build from
nothing really leaves in DuckDB.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb

from dbt_orchestration.changes.fingerprints import Fingerprints, fingerprint
from dbt_orchestration.changes.project import Project
from dbt_orchestration.changes.relations import Analyses
from dbt_orchestration.dbt.cache import Cache
from dbt_orchestration.dbt.compile import compile_nodes
from dbt_orchestration.dbt.internals import sessions
from dbt_orchestration.dbt.invocation import DbtInvocation, DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.dbt.read import read_project
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare

PROJECT = Path(__file__).parent / "soundness_project"
# Microbatch models are built up to this day, not up to today.
TODAY = datetime(2024, 5, 1, tzinfo=UTC)
LABEL = "SOUNDNESS_LABEL"

SOURCES = """
create schema bank;
create table bank.rates (currency varchar, valid_from date, rate decimal(6, 3));
insert into bank.rates values
    ('usd', '2024-01-01', 1.100), ('usd', '2024-02-01', 1.080), ('usd', '2024-02-20', null),
    ('usd', '2024-03-01', 1.090), ('gbp', '2024-01-01', 0.850);
create table bank.rates_of_today as select currency, valid_from, rate * 2 as rate from bank.rates;
"""
_QUIET = ("--quiet", "--log-level=none", "--no-write-json")
_BUILD = ("build", "--exclude-resource-type", "test", "unit_test", "--no-populate-cache", *_QUIET)
_LIST = ("ls", "--select", "state:modified+", "--resource-type", "model", "seed", "snapshot")
_BUILD_SECONDS = 60
# Times of the run itself, and a hash over them.
_VOLATILE = frozenset({"dbt_updated_at", "dbt_valid_from", "dbt_scd_id"})
_CREATE = re.compile(r"\s*create\s+view\s+.*?\s+as\s", re.IGNORECASE | re.DOTALL)


@dataclass
class State:
    """The files of a project by relative path, and the environment dbt reads them in."""

    files: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)

    def copy(self) -> State:
        return State(dict(self.files), dict(self.environment))


@dataclass(frozen=True)
class Relation:
    """What stands in the warehouse under one name."""

    kind: str
    columns: tuple[tuple[str, str], ...]
    rows: Counter[str]
    sql: str = ""

    def difference(self, other: Relation) -> str:
        """What is not the same; empty if all is."""
        if self.columns != other.columns:
            only = [c for c in other.columns if c not in self.columns]
            gone = [c for c in self.columns if c not in other.columns]
            return f"columns: + {only} - {gone}" if only or gone else "order of columns"
        if self.rows != other.rows:
            more, less = other.rows - self.rows, self.rows - other.rows
            return f"rows: + {list(more.items())[:2]} - {list(less.items())[:2]}"
        return "" if self.kind == other.kind else f"{self.kind} became {other.kind}"


@dataclass(frozen=True)
class World:
    """One state: parsed, fingerprinted and built.

    Attributes:
        names: the relation of each node that has one, by unique id.
        relations: what a build from nothing leaves, by that name.
        database: the DuckDB file.
    """

    state: State
    revision: Revision
    prints: Fingerprints
    names: Mapping[str, str]
    relations: Mapping[str, Relation]
    database: Path

    def query(self, sql: str, kind: str, volatile: bool) -> Relation | None:
        """What a query would yield here; None if it fails."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
            try:
                return content(connection, sql, kind, volatile)
            except duckdb.Error:
                return None


class Workshop:
    """Where one project is parsed and built, again and again, in one process."""

    def __init__(self, root: Path, level1: bool = False) -> None:
        self._level1 = level1
        self.project_dir = root / "project"
        self._root = root
        self._state = State(read_files(PROJECT))
        self._database = root / "soundness.duckdb"
        self._cache = Cache(root / "compiled.sqlite")
        self._analyses: Analyses = {}
        shutil.copytree(PROJECT, self.project_dir)
        self._previous: Fingerprints | None = None
        self.base = self.build(self._state)
        self._previous = self.base.prints
        shutil.copytree(self.base.revision.directory, root / "base", dirs_exist_ok=True)

    def build(self, state: State, keep: str = "base") -> World:
        """Parse, fingerprint and build ``state`` from nothing.

        Raises:
            PrepareError, DbtError: dbt cannot.
        """
        self._write(state)
        target = self._target(state)
        revision, project = self._parsed(target)
        if not self._level1:
            project = compile_nodes(project, revision, target, self._cache)
        prints = fingerprint(project, self._analyses, self._previous)
        self._run(target, revision, _BUILD)
        database = self._root / keep / self._database.name
        database.parent.mkdir(exist_ok=True)
        self._database.replace(database)
        names = {
            unique_id: f"{node['schema']}.{node.get('alias') or node['name']}".lower()
            for unique_id, node in project.nodes.items()
            if unique_id in project.built and node["config"].get("materialized") != "ephemeral"
        }
        relations = dict(_relations(database, project, names))
        return World(state, revision, prints, names, relations, database)

    def again(self, world: World) -> Fingerprints:
        """The fingerprints of ``world``, with nothing taken over from others."""
        return fingerprint(world.prints.project, {})

    def dbt_says(self, world: World) -> set[str]:
        """What ``dbt ls --select state:modified+`` lists of ``world``, against the base."""
        output = ("--output", "json", "--output-keys", "unique_id")
        command = (*_LIST, "--state", str(self._root / "base"), *output, *_QUIET)
        lines = self._run(self._target(world.state), world.revision, command)
        return {json.loads(line)["unique_id"] for line in lines or ()} & world.names.keys()

    def _target(self, state: State) -> DbtTarget:
        variables = {"DBT_DUCKDB_PATH": str(self._database), LABEL: "", **state.environment}
        return DbtTarget(
            self.project_dir, self._root / "logs", self.project_dir, None, None, variables
        )

    def _write(self, state: State) -> None:
        for path in self._state.files.keys() - state.files.keys():
            (self.project_dir / path).unlink()
        for path, content in state.files.items():
            if self._state.files.get(path) != content:
                (self.project_dir / path).parent.mkdir(parents=True, exist_ok=True)
                (self.project_dir / path).write_bytes(content.encode())
        self._state = state.copy()

    def _parsed(self, target: DbtTarget) -> tuple[Revision, Project]:
        """Parsed as a partial parse from the base would: every edit begins at the same place."""
        home = self._root / "parsed"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        if (self._root / "base" / "partial_parse.msgpack").is_file():
            (home / "base").mkdir()
            shutil.copy(self._root / "base" / "partial_parse.msgpack", home / "base")
        revision = prepare(ProjectFolder(target), home, analysed=False)
        return revision, read_project(revision, target)

    def _run(self, target: DbtTarget, revision: Revision, command: tuple[str, ...]) -> Any:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        DuckDBConnectionManager.close_all_connections()
        if command[0] == "build":
            for file in self._root.glob(f"{self._database.name}*"):
                file.unlink()
            with duckdb.connect(str(self._database)) as connection:
                connection.execute(SOURCES)
        manifest = sessions.load_manifest(revision.partial_parse_path)
        manifest.build_flat_graph()
        folder = ("--target-path", str(self._root / "target"))
        today = patch("dbt.task.run.get_invocation_started_at", lambda: TODAY)
        # An edit may make a recursion without end: that is an edit dbt cannot build.
        watchdog = threading.Timer(_BUILD_SECONDS, sessions.cancel_queries)
        with contextlib.redirect_stdout(io.StringIO()), today:
            watchdog.start()
            try:
                return DbtInvocation(target, [*command, *folder], manifest).finish()
            finally:
                watchdog.cancel()
                DuckDBConnectionManager.close_all_connections()


def read_files(folder: Path) -> dict[str, str]:
    """The files of a project as text."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {"target", "logs"} & set(path.relative_to(folder).parts)
    }


def _relations(
    database: Path, project: Project, names: Mapping[str, str]
) -> Iterator[tuple[str, Relation]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        views: dict[str, str] = dict(
            connection.execute(
                "select lower(schema_name || '.' || view_name), sql from duckdb_views()"
            ).fetchall()
        )
        for unique_id, name in names.items():
            node = project.nodes[unique_id]
            schema, table = (part.replace('"', '""') for part in name.split(".", 1))
            relation = content(
                connection,
                f'select * from "{schema}"."{table}"',
                "view" if name in views else "table",
                node["resource_type"] == "snapshot" and node["config"]["strategy"] != "timestamp",
                _CREATE.sub("", views.get(name, ""), count=1),
            )
            yield name, relation


def content(
    connection: duckdb.DuckDBPyConnection, query: str, kind: str, volatile: bool, sql: str = ""
) -> Relation:
    """What a query gives.

    Args:
        volatile: leave out columns that say when a snapshot was taken.

    Raises:
        duckdb.Error: it cannot be read.
    """
    cursor = connection.execute(query)
    columns = [(str(name), str(kind)) for name, kind, *_ in cursor.description or ()]
    kept = [
        i for i, (name, _) in enumerate(columns) if not (volatile and name.lower() in _VOLATILE)
    ]
    rows = Counter(repr([_plain(row[i]) for i in kept]) for row in cursor.fetchall())
    return Relation(kind, tuple(columns[i] for i in kept), rows, sql)


def _plain(value: Any) -> Any:
    """A value as it is compared: sums of floats depend on their order in the last digits."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def differences(old: World, new: World) -> dict[str, str]:
    """What a build from nothing makes otherwise: unique ids in ``new``, and how they differ."""
    moved = dict(old.names) != dict(new.names)
    found: dict[str, str] = {}
    for unique_id, name in new.names.items():
        after, before = new.relations[name], old.relations.get(name)
        if before is None:
            found[unique_id] = "a new relation"
        elif why := before.difference(after):
            found[unique_id] = why
        elif moved and before.kind == "view" and before.sql != after.sql:
            # Left alone, the old view would stand here, on relations that may be others or gone.
            left = new.query(before.sql, "view", volatile=False)
            if left is None or left.difference(after):
                found[unique_id] = "a view on a relation that is gone or another"
    return found
