"""What a run came to, on its own page: one event with a table, beside the one bar of its step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.dagster_internals import say
from dbt_orchestration.ledger.provenance import SECONDS
from dbt_orchestration.markdown import table
from dbt_orchestration.runs.failures import Failures, titles
from dbt_orchestration.runs.figures import ROWS, number

_MOST = 300


@dataclass
class _Built:
    """What of an asset was built: seconds that dbt took, rows and partitions."""

    seconds: float = 0.0
    rows: int | None = None
    partitions: int = 0


class Summary:
    """What a run has built so far, by asset."""

    def __init__(self, env: EnvironmentContext) -> None:
        self._env = env
        self._built: dict[dg.AssetKey, _Built] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long dbt took for each asset."""
        return {key.to_user_string(): each.seconds for key, each in self._built.items()}

    def add(self, result: object) -> None:
        """Count a result of the run, if it says that something was built."""
        if not isinstance(result, dg.MaterializeResult | dg.AssetMaterialization):
            return
        assert result.asset_key is not None
        built = self._built.setdefault(result.asset_key, _Built())
        built.seconds += number(result.metadata, SECONDS) or 0.0
        if (rows := number(result.metadata, ROWS)) is not None:
            built.rows = (built.rows or 0) + int(rows)
        if isinstance(result, dg.AssetMaterialization) and result.partition:
            built.partitions += 1

    def end(
        self, context: dg.AssetExecutionContext, nodes: Collection[str], failures: Failures
    ) -> Iterator[dg.AssetObservation]:
        """Say what the run came to in its log, and of each asset that was skipped because of whom.

        Args:
            nodes: those that the run was to build, by unique id.
        """
        keys, failed = self._env.keys, failures.found
        built = {self._env.unique_ids[key] for key in self._built}
        skipped = failures.skipped(nodes, built)
        yield from failures.of_skipped(skipped)
        if len(built) + len(failed) + len(skipped) <= 1:
            return
        seconds = sum(each.seconds for each in self._built.values())
        said = f"{len(built)} built in {seconds:,.1f} s"
        said += f", {len(failed)} failed, {len(skipped)} skipped."
        because = [(failure.title, f"failed: {failure.cause}") for failure in failed.values()]
        because += [
            (keys[u].to_user_string(), f"skipped, because this failed: {titles(causes)}")
            for u, causes in sorted(skipped.items())
        ]
        tables = {}
        if built:
            tables["built"] = _table(("asset", "seconds", "rows", "partitions"), self._rows())
        if because:
            tables["not built"] = _table(("what", "why"), because)
        say(context.instance, context.run, said, tables)

    def _rows(self) -> list[tuple[str, ...]]:
        """What was built, the slowest first."""
        return [
            (
                key.to_user_string(),
                f"{each.seconds:,.2f}",
                "" if each.rows is None else f"{each.rows:,}",
                f"{each.partitions:,}" if each.partitions else "",
            )
            for key, each in sorted(self._built.items(), key=lambda item: -item[1].seconds)
        ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> dg.MarkdownMetadataValue:
    left = len(rows) - _MOST
    more = f"\n\n… and {left:,} more." if left > 0 else ""
    return dg.MetadataValue.md(table(headings, rows[:_MOST]) + more)
