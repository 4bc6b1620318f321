"""What stands in the warehouse of nodes that were never built here, and whether it fits their code.

Columns are compared with those that the analysis of the code knows; rows, if somebody wants that,
with what the compiled SQL makes.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.dbt.internals import manifests, sessions
from dbt_orchestration.dbt.invocation import DbtInvocation
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.history.partitions import PartitionConfig, newest, partition_keys
from dbt_orchestration.history.request import Partitions, window_vars
from dbt_orchestration.ledger.deferral import deferral_options, same_elsewhere
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.ledger.staleness import Staleness
from dbt_orchestration.revisions.warehouse import is_missing, look, look_at_columns
from dbt_orchestration.runs.command import vars_options

# As our macro writes the beginning of a period.
_PERIOD = "%Y-%m-%d %H:%M"
_NAMED = 3

# How many rows there are of each period; all of them under "" where there are no periods.
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Fit:
    """What stands where a node is built, compared with what its code makes.

    Attributes:
        there: its relation is in the warehouse, and of its type.
        why: why it cannot be taken for built by its code; "" if it can.
        columns: what is known of its columns, in words.
        rows: what is known of its rows, in words.
        types: the type of each column that is there, by its name in lower case.
        partitions: those that can be taken for built, oldest first.
        missing: those that cannot, and that no ordinary build comes to.
    """

    there: bool
    why: str = ""
    columns: str = ""
    rows: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    partitions: Sequence[str] = ()
    missing: Sequence[str] = ()


def fits(
    env: EnvironmentContext,
    instance: dg.DagsterInstance,
    nodes: Collection[str],
    stands: Staleness,
    scratch: str,
    *,
    compare_rows: bool,
) -> Mapping[str, Fit]:
    """Compare what is there of some nodes with their code, each after what it reads.

    What reads something that does not fit, or that misses partitions, does not fit either: it may
    have been made from what is there now, by other code.

    Args:
        nodes: unique ids of nodes that were never built here.
        stands: how everything else stands.
        scratch: a folder that dbt may write to.

    Raises:
        DbtError: the warehouse cannot be reached, or refuses, or a model does not compile.
    """
    ready = {u for u in stands.built if stands.is_current(u) and u not in stands.stale}
    ready |= {*same_elsewhere(env.settings, env.name, instance, env.revision)}
    looking = _Looking(env, instance, scratch)
    found = looking.at_columns(nodes)
    wanted = [u for u, fit in _with_readers(env, found, ready).items() if not fit.why]
    counted = looking.at_rows({u: found[u] for u in wanted}, compare=compare_rows)
    return _with_readers(env, {**found, **counted}, ready)


def _with_readers(
    env: EnvironmentContext, own: Mapping[str, Fit], ready: Collection[str]
) -> Mapping[str, Fit]:
    late = (env.keys.keys() & env.nodes.keys()) - set(ready)
    late -= {u for u, fit in own.items() if not fit.why and not fit.missing}
    found: dict[str, Fit] = {}
    for u, fit in own.items():
        above = {env.nodes[a]["name"] for a in ancestors_of(env.nodes, u) & late}
        found[u] = replace(fit, why=fit.why or (f"reads {named(above)}" if above else ""))
    return found


def named(names: Collection[str]) -> str:
    """The first few, in words."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + more


class _Looking:
    """Asks the warehouse of an environment."""

    def __init__(self, env: EnvironmentContext, instance: dg.DagsterInstance, scratch: str) -> None:
        self._env = env
        self._instance = instance
        self._scratch = scratch

    def at_columns(self, nodes: Collection[str]) -> Mapping[str, Fit]:
        """What is there, with its columns."""
        env, manifest = self._env, self._manifest()
        asked = (env.target, env.revision)
        seen = {} if is_missing(env.target) else look(*asked, nodes, manifest, self._scratch)
        there = [u for u in nodes if u in seen and seen[u].there]
        columns = look_at_columns(*asked, there, manifest, self._scratch) if there else {}
        found = {u: self._compared(u, columns.get(u, {})) for u in there}
        absent = Fit(there=False, why="it is not there, or a view for a table")
        above = {u: len(ancestors_of(env.nodes, u)) for u in nodes}
        return {u: found.get(u, absent) for u in sorted(nodes, key=lambda u: (above[u], u))}

    def _compared(self, unique_id: str, types: Mapping[str, str]) -> Fit:
        made = [name.lower() for name in self._env.revision.lineage.get(unique_id, {})]
        closed = unique_id in self._env.revision.closed
        if not types or not (made or closed):
            return Fit(there=True, columns="not known", types=types)
        missing = [f"{name} is missing" for name in made if name not in types]
        more = [f"{name} is too many" for name in types if name not in made] if closed else []
        differs = [*missing, *more]
        if closed and not differs and [*types] != made:
            differs = ["in another order"]
        said = f"columns: {', '.join(differs)}" if differs else ""
        alike = "the same" if closed else "not all are known"
        return Fit(there=True, why=said, columns=", ".join(differs) or alike, types=types)

    def at_rows(self, found: Mapping[str, Fit], *, compare: bool) -> Mapping[str, Fit]:
        """The same with the partitions that are there; with all rows compared, if wanted."""
        env, now = self._env, datetime.now(UTC)
        models = {u: model for u in found if (model := env.model(u))}
        comparable = {u for u in found if not self._why_incomparable(u)} if compare else set()
        counted = comparable | {u for u in models if self._time(u)}
        there = self._count({u: str(env.nodes[u]["relation_name"]) for u in counted})
        made = self._count(self._compiled(comparable, models, now))
        made |= {u: {"": self._rows_of_file(u)} for u in comparable if u.startswith("seed.")}
        result: dict[str, Fit] = {}
        for u, seen in found.items():
            why = self._why_incomparable(u) if compare else ""
            rows = f"not compared: {why}" if why else _rows(there.get(u), made.get(u))
            fit = replace(seen, rows=rows)
            if u in models and self._time(u):
                result[u] = self._by_partition(u, fit, there[u], made.get(u), now)
            elif u in made and there[u] != made[u]:
                result[u] = replace(fit, why=f"rows: {rows}")
            else:
                # Nobody knows which of its rows are of which partition.
                every = partition_keys(models[u], now) if u in models else ()
                result[u] = replace(fit, partitions=every)
        return result

    def _by_partition(
        self, unique_id: str, fit: Fit, there: Counts, made: Counts | None, now: datetime
    ) -> Fit:
        model, lookback = self._env.partitioned(unique_id), self._env.environment.lookback
        every = partition_keys(model, now)
        here = dict(_by_key(model, there))
        if outside := sorted(here.keys() - set(every)):
            said = f"rows: some are of {outside[0]}, which is none of its partitions"
            return replace(fit, why=said)
        code = dict(_by_key(model, made)) if made is not None else None
        good = [k for k in every if (k in here if code is None else here.get(k) == code.get(k))]
        if not good:
            said = "each partition has others" if here else "there are none"
            return replace(fit, why=f"rows: {said}")
        # What has come after them is built with the next day, as always. The last one may have been
        # built while it had not ended yet.
        by_itself = {*newest(model, set(good), now, lookback)}
        half = {good[-1]} - by_itself if code is None and len(good) > 1 else set()
        good = [key for key in good if key not in half]
        missing = [key for key in every if key not in {*good, *by_itself}]
        return replace(fit, partitions=good, missing=missing)

    def _time(self, unique_id: str) -> str:
        """The column that says of which partition a row of a model is; "" if none is known."""
        return str(self._env.nodes[unique_id]["config"].get("event_time") or "")

    def _why_incomparable(self, unique_id: str) -> str:
        node = self._env.nodes[unique_id]
        if node["resource_type"] == "snapshot" or HistoryPolicy.of(node).keeps_history:
            return "it keeps what its code does not make any more"
        if node["resource_type"] == "model" and node.get("language") != "sql":
            return "it is no SQL"
        return ""

    def _compiled(
        self, nodes: Collection[str], models: Mapping[str, PartitionConfig], now: datetime
    ) -> Mapping[str, str]:
        """What each node makes from nothing, as a subquery; without seeds."""
        env, wanted = self._env, {u for u in nodes if not u.startswith("seed.")}
        if not wanted:
            return {}
        manifest = self._manifest()
        manifests.select_exactly(manifest, wanted)
        of = {u: model for u, model in models.items() if u in wanted}
        windows = window_vars(of, {u: Partitions(partition_keys(of[u], now)) for u in of})
        command = ["compile", "--full-refresh", "--no-write-json", "--quiet"]
        command += ["--target-path", self._scratch, *vars_options(windows)]
        log = dg.get_dagster_logger()
        command += deferral_options(env.settings, env.name, self._instance, log)
        DbtInvocation(env.target, command, manifest).finish()
        sql = {u: sessions.compiled_code(manifest, u) for u in wanted}
        return {u: f"({code}\n) as made" for u, code in sql.items() if code}

    def _count(self, of: Mapping[str, str]) -> dict[str, Counts]:
        """The rows of each relation or subquery, by the unique id of its node."""
        models = {u: self._env.model(u) for u in of}
        tables = [
            {
                "of": sql,
                "time": self._time(u) if models[u] else "",
                "size": model.batch_size if (model := models[u]) else "",
            }
            for u, sql in of.items()
        ]
        if not tables:
            return {}
        env, manifest = self._env, self._manifest()
        found = operate(env.target, manifest, "counts", self._scratch, tables=tables)
        return {u: dict(counts) for u, counts in zip(of, found, strict=True)}

    def _rows_of_file(self, unique_id: str) -> int:
        node = self._env.nodes[unique_id]
        path = self._env.revision.folders[node["package_name"]] / node["original_file_path"]
        delimiter = node["config"].get("delimiter") or ","
        with path.open(newline="", encoding="utf-8-sig") as file:
            return max(sum(1 for row in csv.reader(file, delimiter=delimiter) if row) - 1, 0)

    def _manifest(self) -> Any:
        return sessions.load_manifest(self._env.revision.partial_parse_path)


def _rows(there: Counts | None, made: Counts | None) -> str:
    if there is None:
        return ""
    count = sum(there.values())
    if made is None:
        return f"{count:,}"
    other = sum(made.values())
    return f"{count:,}" if count == other else f"{count:,}, and its code makes {other:,}"


def _by_key(model: PartitionConfig, counts: Counts) -> Iterator[tuple[str, int]]:
    for period, count in counts.items():
        yield datetime.strptime(period, _PERIOD).strftime(model.definition.fmt), count
