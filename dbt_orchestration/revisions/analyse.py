"""The fingerprints of a parsed project, with everything known from before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dbt_orchestration.changes.fingerprints import Fingerprints, fingerprint, scheme
from dbt_orchestration.changes.lineage import column_lineage
from dbt_orchestration.changes.terms import digest
from dbt_orchestration.dbt.cache import Cache
from dbt_orchestration.dbt.compile import compile_nodes
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.dbt.read import read_project
from dbt_orchestration.dbt.scratch import write_whole


class Analyst:
    """Makes fingerprints; compiled and analysed SQL is kept in files under ``home``.

    Args:
        say: told what is going on.
    """

    def __init__(self, home: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._compiled = Cache(home / "compiled.sqlite")
        self._kept = Cache(home / "analyses.sqlite")
        self._analyses = _Recording(self._kept.get([scheme()]).get(scheme(), {}))
        self._say = say

    def fingerprints(self, revision: Revision, target: DbtTarget) -> Fingerprints:
        """The fingerprints of ``revision``, by column wherever its SQL can be compiled.

        Raises:
            PrepareError: the profile or a file of the project cannot be read.
        """
        project = read_project(revision, target)
        project = compile_nodes(project, revision, target, self._compiled, self._say)
        self._say("analysing")
        return fingerprint(project, self._analyses)

    def keep(self) -> None:
        """Store what was read since this analyst was made, and forget the rest."""
        if self._analyses.read:
            self._kept.put({scheme(): self._analyses.read})


def analyse(revision: Revision, target: DbtTarget, home: Path) -> None:
    """Write what is known of ``revision``'s SQL next to its manifest.

    Raises:
        PrepareError: as ``Analyst.fingerprints``.
    """
    # Dagster comes with it, which comparing two commits does without.
    from dbt_orchestration.changes.merging.models import unmergeable

    analyst = Analyst(home)
    prints = analyst.fingerprints(revision, target)
    analyst.keep()
    lineage = {
        unique_id: {
            column: [[origin.node, origin.column] for origin in origins]
            for column, origins in columns.items()
        }
        for unique_id, columns in column_lineage(prints).items()
    }
    values = {unique_id: node.value for unique_id, node in prints.nodes.items()}
    columns = {
        unique_id: digest(node.linked.rest, *(f"{name}={v}" for name, v in node.linked.columns))
        for unique_id, node in prints.nodes.items()
    }
    checks = {
        unique_id: digest(*(f"{key}={value}" for key, value in sorted(parts.code.items())))
        for unique_id, parts in prints.checks.items()
    }
    content = {
        "scheme": prints.scheme,
        "fingerprints": values,
        "columns": columns,
        "checks": checks,
        "lineage": lineage,
        "closed": sorted(
            unique_id
            for unique_id, node in prints.nodes.items()
            if node.terms.rest is None and node.terms.positions
        ),
        "unmergeable": unmergeable(prints.project),
    }
    write_whole(revision.analysis_path, content)


class _Recording(dict[str, Any]):
    """Remembers what was read, so that only that is kept."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self.read: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        self.read[key] = value
        return value
