"""Builds from nothing, by dbt alone: what ``benchmarks.history`` expects of an environment.

The same project, the same data and the same clock, in a DuckDB file of its own. dbt parses the
files itself, from the same first parse each time, so that nothing of how an environment came to
where it is can matter.

To be fast, a build takes over what the one before made of files that are the same: if only files
of models and seeds changed, these, all that reads them and what reads the graph are dropped and
built, in a copy. One build in ``_WHOLE`` is done as a whole, and has to be the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb

from benchmarks.history_world import (
    DATABASE,
    Clock,
    Content,
    Node,
    Whole,
    alone,
    differ,
    read,
    reads,
)
from benchmarks.soundness_world import SOURCES, State
from dbt_orchestration.dbt.internals import manifests, sessions
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.history.partitions import partition_config, window
from dbt_orchestration.settings.project_meta import ProjectError

_QUIET = ("--quiet", "--log-level=none", "--no-write-json")
_NO_TESTS = ("--exclude-resource-type", "test", "unit_test")
_BUILD_SECONDS = 300
# Of states that were built: chains go back to earlier ones.
_KEEP = 8
_WHOLE = 8


class NotBuiltError(Exception):
    """dbt cannot parse or build a state from nothing."""


@dataclass
class Nothing:
    """Builds states of the project from nothing, one after the other, in ``root``.

    Attributes:
        mistakes: nodes that were taken over and should not have been; there must be none.
    """

    root: Path
    clock: Clock
    mistakes: list[str] = field(default_factory=list)
    _written: dict[str, str] = field(default_factory=dict)
    _count: int = 0
    _kept: list[Path] = field(default_factory=list)
    _built: list[tuple[Whole, datetime]] = field(default_factory=list)

    @property
    def project_dir(self) -> Path:
        return self.root / "project"

    def build(self, state: State) -> Whole:
        """Build ``state``, unless that was done a short while ago.

        Raises:
            NotBuiltError: dbt says no.
        """
        for whole, now in self._built:
            if whole.state == state and now == self.clock.now:
                return whole
        base = self._built[-1][0] if self._built else None
        if base and (
            self._built[-1][1] != self.clock.now or not _differ_in_nodes(base.state, state)
        ):
            base = None
        whole = self._build(state, base)
        if base and self._count % _WHOLE == 0:
            again = self._build(state, None)
            past = {u for u in again.nodes if again.nodes[u].kind == "snapshot"}
            self.mistakes += [
                f"{u}: {how}"
                for u in again.nodes
                if not ({u, *reads(again.nodes, u)} & past)  # which say when they were taken
                if (how := differ(again.content[u], whole.content[u]))
            ]
            whole = again
        self._built = [*self._built[:1], *self._built[1:][-_KEEP:], (whole, self.clock.now)]
        return whole

    def build_cold(self, state: State) -> Whole:
        """Build ``state`` as a whole, with every file parsed again."""
        return self._build(state, None, cold=True)

    def _build(self, state: State, base: Whole | None, *, cold: bool = False) -> Whole:
        home = self._new_home()
        if not cold and len(self._kept) > 1:
            shutil.copy(self._kept[0] / "partial_parse.msgpack", home)
        self._write(state)
        self._install_packages(state)
        manifest = self._dbt(state, ("parse", "--target-path", str(home), *_QUIET))
        for node in manifest.nodes.values():
            try:
                partition_config(node.to_dict())
            except ProjectError as error:
                raise NotBuiltError(str(error)) from None
        nodes = dict(_nodes(manifest))
        database = home / DATABASE
        changed: Collection[str] = nodes
        select: tuple[str, ...] = ()
        if base:
            changed = _changed(base, state, manifest) & nodes.keys()
            select = ("--select", *_selectors(manifest, changed))
            _copy(base.database, database)
            unchanged = {nodes[u].relation for u in nodes.keys() - set(changed)}
            _drop(database, {node.relation for node in base.nodes.values()} - unchanged)
        else:
            with duckdb.connect(str(database)) as connection:
                connection.execute(SOURCES)
        if changed:
            windows = self._windows(nodes)
            _end_batches(manifest, nodes)
            command = ("build", "--full-refresh", "--fail-fast", "--no-populate-cache")
            self._dbt(state, (*command, *_NO_TESTS, *_QUIET, *windows, *select), database, manifest)
        found = dict(read(database, {u: nodes[u] for u in changed}))
        if wrong := [f"{u}: {said}" for u, said in found.items() if isinstance(said, str)]:
            raise NotBuiltError("; ".join(wrong))
        for u in nodes.keys() - set(changed):
            assert base is not None
            found[u] = base.content[u]
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
            full_refresh: from nothing; or else as an ordinary build, of the newest partitions.
            turned: tables whose rows are put into the opposite order before.

        Raises:
            NotBuiltError: dbt says no.
        """
        copy = self.root / "again" / DATABASE
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        _copy(database, copy)
        _turn(copy, turned)
        self._write(whole.state)
        self._install_packages(whole.state)
        manifest = sessions.load_manifest(whole.partial_parse)
        refresh = ("--full-refresh",) if full_refresh else ()
        windows = self._windows(whole.nodes, newest=not full_refresh)
        _end_batches(manifest, {u: whole.nodes[u] for u in unique_ids})
        command = ("build", *_NO_TESTS, *_QUIET, *refresh, *windows)
        select = ("--select", *_selectors(manifest, unique_ids))
        self._dbt(whole.state, (*command, *select), copy, manifest)
        return read(copy, {u: whole.nodes[u] for u in unique_ids})

    def _new_home(self) -> Path:
        self._count += 1
        home = self.root / str(self._count)
        home.mkdir(parents=True)
        used = {whole.database.parent for whole, _ in self._built}
        for old in [folder for folder in self._kept if folder not in used]:
            shutil.rmtree(old)
            self._kept.remove(old)
        self._kept.append(home)
        return home

    def _windows(self, nodes: Mapping[str, Node], *, newest: bool = False) -> tuple[str, ...]:
        """The vars that let models which read their window from vars build their partitions.

        Args:
            newest: the newest and what is before it; or else all of them.
        """
        said: dict[str, str] = {}
        for node in nodes.values():
            try:
                model = node.partitions
            except ProjectError as error:
                raise NotBuiltError(str(error)) from None
            if not model or not model.start_var or not model.end_var:
                continue
            if keys := model.definition.get_partition_keys():
                windows = [model.definition.time_window_for_partition_key(k) for k in keys]
                start, end = windows[-2:][0].start if newest else windows[0].start, windows[-1].end
                for name, time in ((model.start_var, start), (model.end_var, end)):
                    said[name] = time.strftime("%Y-%m-%dT%H:%M:%S")
        return ("--vars", json.dumps(said)) if said else ()

    def _install_packages(self, state: State) -> None:
        shutil.rmtree(self.project_dir / "dbt_packages", ignore_errors=True)
        (self.project_dir / "package-lock.yml").unlink(missing_ok=True)
        if "local: installed/" not in state.files["packages.yml"]:  # where they lie already
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
        watchdog = threading.Timer(_BUILD_SECONDS, sessions.cancel_queries)
        with contextlib.redirect_stdout(io.StringIO()), alone(), _without_log():
            watchdog.start()
            try:
                return DbtInvocation(target, list(command), manifest).finish()
            except DbtError as error:
                raise NotBuiltError(f"dbt {command[0]}: {error}") from None
            finally:
                watchdog.cancel()


def _end_batches(manifest: Any, nodes: Mapping[str, Node]) -> None:
    """dbt does not know that partitions of a model may end: it goes on until now."""
    for unique_id, node in nodes.items():
        model = node.partitions
        if model and model.is_microbatch and model.end:
            keys = model.definition.get_partition_keys()
            manifests.set_batches(manifest, unique_id, [window(model, key) for key in keys])


def _differ_in_nodes(one: State, other: State) -> bool:
    """Whether only files of models and seeds differ: not what could decide anything of others."""
    return one.environment == other.environment and all(
        path.startswith(("models/", "seeds/")) and path.endswith((".sql", ".csv"))
        for path in _changed_files(one, other)
    )


def _changed_files(one: State, other: State) -> set[str]:
    paths = one.files.keys() | other.files.keys()
    return {path for path in paths if one.files.get(path) != other.files.get(path)}


def _changed(base: Whole, state: State, manifest: Any) -> set[str]:
    """Nodes of changed files, nodes that read the graph, and all that reads these."""
    files = _changed_files(base.state, state)
    found = {
        unique_id
        for unique_id, node in manifest.nodes.items()
        if node.original_file_path in files or "graph" in node.raw_code
    }
    children: dict[str, list[str]] = {}
    for unique_id, node in manifest.nodes.items():
        for parent in node.depends_on_nodes:
            children.setdefault(parent, []).append(unique_id)
    waiting = list(found)
    while waiting:
        new = set(children.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def _selectors(manifest: Any, unique_ids: Collection[str]) -> list[str]:
    return [f"fqn:{'.'.join(manifest.nodes[u].fqn)}" for u in sorted(unique_ids)]


def _copy(database: Path, to: Path) -> None:
    for path in (database, database.with_name(f"{database.name}.wal")):
        if path.is_file():
            shutil.copy(path, to.with_name(path.name))


def _drop(database: Path, relations: Collection[str]) -> None:
    with duckdb.connect(str(database)) as connection:
        for name in sorted(relations):
            schema, table = name.split(".", 1)
            for kind in ("view", "table"):
                with contextlib.suppress(duckdb.Error):
                    connection.execute(f'drop {kind} "{schema}"."{table}"')


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
