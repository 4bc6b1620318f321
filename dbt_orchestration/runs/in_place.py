"""What stands in the warehouse where a run is going to build: does it fit, is it in the way?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dbt_orchestration.dbt.internals import manifests, sessions
from dbt_orchestration.dbt.invocation import DbtInvocation, DbtTarget
from dbt_orchestration.dbt.operation import operate, table_of


class InPlace:
    """Looks at tables of an environment before dbt builds into them.

    Args:
        manifest: the revision's manifest.json.
        load: dbt's own manifest, a new one each time; for operations.
        scratch: a folder that dbt may write to.
    """

    def __init__(
        self,
        target: DbtTarget,
        manifest: Mapping[str, Any],
        load: Callable[[], Any],
        scratch: str,
    ) -> None:
        self._target = target
        self._manifest = manifest
        self._load = load
        self._scratch = scratch

    def misfits(
        self, unique_ids: Collection[str], compiled: Any, options: Sequence[str]
    ) -> tuple[set[str], Mapping[str, str]]:
        """Models whose table has not the columns, in order and type, that their SQL makes.

        What they read has to stand as it will. Also those of which that cannot be told, as they do
        not compile, each with why.

        Args:
            compiled: dbt's own manifest, as for the build; it gets the compiled SQL.
            options: for dbt, as for the build.

        Raises:
            DbtError: the warehouse cannot be reached, or refused.
        """
        manifests.select_exactly(compiled, unique_ids)
        command = ["compile", "--no-write-json", "--target-path", self._scratch, "--quiet"]
        invocation = DbtInvocation(self._target, [*command, *options], compiled)
        for _ in invocation.events():
            pass
        failed = {u: why for u, why in invocation.failed.items() if u in unique_ids}
        if not failed:
            invocation.raise_on_failure()
        nodes = self._manifest["nodes"]
        sql = {u: sessions.compiled_code(compiled, u) for u in unique_ids if u not in failed}
        tables = [{**table_of(nodes, u), "sql": code} for u, code in sql.items() if code]
        said = operate(self._target, self._load(), "misfits", self._scratch, tables=tables)
        return {*said, *(u for u, code in sql.items() if not code)}, failed

    def make_way(self, unique_ids: Mapping[str, str]) -> Sequence[str]:
        """Move what stands where nodes are built for the first time; return what was done.

        Args:
            unique_ids: each with the name under which a table is kept; "" if it may stay.

        Raises:
            DbtError: the warehouse refused.
        """
        nodes = self._manifest["nodes"]
        tables = [{**table_of(nodes, u), "aside": aside} for u, aside in unique_ids.items()]
        done: list[str] = operate(
            self._target, self._load(), "make_way", self._scratch, tables=tables
        )
        return done
