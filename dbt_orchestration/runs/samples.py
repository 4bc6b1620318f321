"""Some of the rows that a test failed for: of which tests, how many, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from dbt_orchestration.dbt.outcomes import Sample
from dbt_orchestration.markdown import shortened
from dbt_orchestration.settings.failed_rows import FailedRows

_MOST_COLUMNS = 30
_NO = (None, False, "", "false", "no")


class Samples:
    """What an environment shows of rows that fail its tests.

    Args:
        manifest: the revision's manifest.json.
    """

    def __init__(self, manifest: Mapping[str, Any], settings: FailedRows) -> None:
        self._manifest = manifest
        self._settings = settings

    def query(self, unique_id: str, seconds: float, sql: str) -> str:
        """The query that shows some rows of a test; "" if none are to be shown.

        Args:
            seconds: how long the test took.
            sql: its own.
        """
        if self._why_none(unique_id, seconds):
            return ""
        whole = self._with_every_column(unique_id, sql.strip())
        return f"select * from (\n{whole}\n) as failed_rows\nlimit {self._settings.rows}"

    def _with_every_column(self, unique_id: str, sql: str) -> str:
        """dbt's ``not_null`` selects nothing but the column without a value: which row is that?"""
        test = self._manifest["nodes"][unique_id].get("test_metadata") or {}
        if test.get("name") != "not_null" or test.get("namespace"):
            return sql
        column = str(test["kwargs"].get("column_name"))
        return re.sub(rf"\Aselect\s+{re.escape(column)}(?=\s+from\b)", "select *", sql)

    def metadata(
        self, unique_id: str, seconds: float, sample: Sample | None
    ) -> Mapping[str, dg.MetadataValue[Any]]:
        """The rows as a table, or why there are none."""
        if sample is None or sample.error:
            why = sample.error if sample else self._why_none(unique_id, seconds)
            return {"no sample": dg.MetadataValue.text(shortened(why, 500))} if why else {}
        columns, left = sample.columns[:_MOST_COLUMNS], len(sample.columns) - _MOST_COLUMNS
        records = [
            dg.TableRecord(dict(zip(columns, map(self._shown, row), strict=False)))
            for row in sample.rows
        ]
        schema = dg.TableSchema([dg.TableColumn(name, "string") for name in columns])
        table = dg.MetadataValue.table(records, schema)
        more = {"columns left out": dg.MetadataValue.int(left)} if left > 0 else {}
        return {"sample": table, **more}

    def _shown(self, value: object) -> str:
        return "NULL" if value is None else shortened(str(value), self._settings.characters)

    def _why_none(self, unique_id: str, seconds: float) -> str:
        settings = self._settings
        if not settings.enabled:
            return "failed_rows.enabled is false in the environment's settings"
        if hidden := next(self._hidden(unique_id), ""):
            return f"{hidden} has {settings.hidden_by}"
        if seconds > settings.max_seconds:
            return f"the test took longer than {settings.max_seconds:g} s (failed_rows.max_seconds)"
        return ""

    def _hidden(self, unique_id: str) -> Iterator[str]:
        """What the test reads, or the test itself, if its rows are not to be shown."""
        nodes, sources = self._manifest["nodes"], self._manifest["sources"]
        for u in (unique_id, *nodes[unique_id]["depends_on"]["nodes"]):
            node = nodes.get(u) or sources.get(u)
            if node and is_marked(node, self._settings.hidden_by):
                yield f"{node['resource_type']} {node['name']}"


def is_marked(node: Mapping[str, Any], key: str) -> bool:
    """Whether a node, or one of its columns, has a tag ``key``, or that under its ``meta``."""
    parts = [node, *(node.get("columns") or {}).values()]
    configs = [part.get("config") or {} for part in parts]
    metas = [part.get("meta") or {} for part in (*parts, *configs)]
    tags = {tag for part in (*parts, *configs) for tag in _listed(part.get("tags"))}
    return key in tags or any(meta.get(key) not in _NO for meta in metas)


def _listed(tags: Any) -> list[str]:
    return [tags] if isinstance(tags, str) else list(tags or ())
