"""Copies of tables that a push replaces, so that a roll back need not compute them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate, table_of
from dbt_orchestration.ledger.kept_tables import (
    KeptTable,
    PutBack,
    can_be_kept,
    read_kept,
    too_old,
    write_kept,
)
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.ledger.orphans import orphans
from dbt_orchestration.ledger.run_tags import is_from_push
from dbt_orchestration.revisions.explanation import PARTIAL, STOPPED
from dbt_orchestration.runs.plan import RunPlan


class TableCopies:
    """Makes, finds and drops copies of an environment's tables.

    Args:
        load: dbt's own manifest, a new one each time.
        scratch: a folder that dbt may write to.
    """

    def __init__(
        self,
        env: EnvironmentContext,
        context: dg.AssetExecutionContext,
        load: Callable[[], Any],
        scratch: str,
    ) -> None:
        self._env = env
        self._context = context
        self._instance = context.instance
        self._load = load
        self._scratch = scratch

    def there(self, kept: Mapping[str, Sequence[KeptTable]]) -> Mapping[str, Sequence[KeptTable]]:
        """Those that are in the warehouse.

        Raises:
            DbtError: the warehouse cannot be asked.
        """
        every = [(u, table) for u, tables in kept.items() for table in tables]
        seen: list[list[str]] = self._operate("kept", every)
        return {u: [t for t in tables if [u, t.name] in seen] for u, tables in kept.items()}

    def keep(self, work: RunPlan, request: str) -> None:
        """Copy what a push replaces. Without a copy a roll back computes it: that stops nothing.

        Args:
            request: the id of the first attempt.
        """
        if not self._env.environment.keep_replaced or not is_from_push(self._context.run.tags):
            return
        try:
            kept = self._keep(work, request)
        except DbtError as error:
            self._context.log.warning(
                f"Tables are replaced without a copy for a roll back: {error}"
            )
            return
        if kept:
            named = ", ".join(sorted(self._env.nodes[u]["name"] for u in kept))
            self._context.log.info(f"Kept a copy of the tables that are replaced: {named}.")

    def forget(self, work: RunPlan, failed: Collection[str]) -> None:
        """Drop the copies that were put back, and those that are too old.

        A push looks at those of all nodes, also of such as are gone; another run at its own.

        Args:
            failed: nodes of which none was put back.
        """
        used = {u: copy for u, copy in work.put_back.items() if u not in failed}
        nodes: Collection[str] = work.nodes.keys()
        if self._env.environment.keep_replaced and is_from_push(self._context.run.tags):
            # Whoever looks for what is gone reads a record of every asset that is not here.
            gone = {each.unique_id for each in orphans(self._instance, self._env)}
            nodes = self._env.nodes.keys() | gone
        try:
            self._forget(nodes, used)
        except DbtError as error:
            self._context.log.warning(f"Copies of replaced tables could not be dropped: {error}")

    def _keep(self, work: RunPlan, request: str) -> Collection[str]:
        """Copy what a run replaces with what other code makes; the nodes of which there is a copy.

        What an earlier attempt has copied is not copied again: it may be replaced by now.
        """
        env, built, now = self._env, work.stands.built, self._env.revision.fingerprints
        names = Moved(env.revision)
        changed = {
            u
            for u in can_be_kept(env, work.nodes.keys() & built.keys())
            if {built[u].fingerprint, *built[u].partitions.values()} != {now[u]}
            if not names.is_elsewhere(u, built[u])
            if not built[u].fingerprint.endswith((PARTIAL, STOPPED)) or built[u].partitions
        }
        before = read_kept(self._instance, env.name, changed)
        made = {u: KeptTable.of(env, u, built[u], request) for u in changed}
        made = {
            u: table
            for u, table in made.items()
            if table.name not in {each.name for each in before.get(u, ())}
        }
        # Remembered first: of a run that dies here, somebody has to drop what it has copied.
        for u, table in made.items():
            write_kept(self._instance, env.name, u, [table, *before.get(u, ())])
        copied: list[str] = self._operate("keep", [*made.items()])
        for u in made.keys() - {*copied}:
            write_kept(self._instance, env.name, u, before.get(u, ()))
        return copied

    def begin_with(self, wanted: Mapping[str, PutBack], shadow: Callable[[str], str]) -> None:
        """Make shadow tables of copies.

        Args:
            shadow: the name of a node's shadow table.

        Raises:
            DbtError: the warehouse refused.
        """
        self._operate(
            "begin_with_kept", [(u, copy.table) for u, copy in wanted.items()], shadow=shadow
        )

    def _forget(self, nodes: Collection[str], used: Mapping[str, PutBack]) -> None:
        env, dropped = self._env, []
        left: dict[str, Sequence[KeptTable]] = {}
        for u, tables in read_kept(self._instance, env.name, nodes).items():
            gone = [*too_old(tables, env.environment.keep_replaced)]
            gone += [table for table in tables if u in used and table == used[u].table]
            if gone:
                dropped += [(u, table) for table in gone]
                left[u] = [table for table in tables if table not in gone]
        self._operate("drop_kept", dropped)
        for u, tables in left.items():
            write_kept(self._instance, env.name, u, tables)

    def _operate(
        self,
        macro: str,
        copies: Sequence[tuple[str, KeptTable]],
        shadow: Callable[[str], str] = lambda _: "",
    ) -> Any:
        if not copies:
            return []
        nodes = self._env.nodes
        tables = [
            {
                **(table_of(nodes, u) if u in nodes else {"unique_id": u}),
                "kept": table.place,
                "shadow": shadow(u),
                # As dbt makes it: Snowflake makes no table of a transient one that is not.
                "transient": u not in nodes or nodes[u]["config"].get("transient") is not False,
            }
            for u, table in copies
        ]
        return operate(self._env.target, self._load(), macro, self._scratch, tables=tables)
