"""What failed in a run, and why: the run says so with its failure, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import dagster as dg

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.parse import Commit

_FAILED = "dbt/failed"
_LONGEST = 1_000


@dataclass(frozen=True)
class Failed:
    """A node or a test that failed.

    Attributes:
        why: what dbt says.
        fingerprint: of a node, as the run was to build it; else "".
        changed: the commit that changed it last; None if that is not known.
    """

    why: str
    fingerprint: str = ""
    changed: Commit | None = None

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Failed:
        """From ``as_json``."""
        changed = recorded.get("changed")
        return cls(recorded["why"], recorded["fingerprint"], Commit(**changed) if changed else None)

    def as_json(self) -> dict[str, Any]:
        changed = self.changed.as_json() if self.changed else None
        return {
            "why": self.why[:_LONGEST],
            "fingerprint": self.fingerprint,
            "changed": changed,
        }


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed.

    Attributes:
        nodes: by unique id, each node and test that failed; not what was skipped.
        said: the whole message; "" of a run whose process died.
    """

    nodes: Mapping[str, Failed] = field(default_factory=dict)
    said: str = ""

    @classmethod
    def of(cls, instance: dg.DagsterInstance, run_id: str) -> RunFailure:
        """As a run has recorded it."""
        failed: dict[str, Any] = {}
        said = ""
        records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        for record in records.records:
            event = record.event_log_entry.dagster_event
            if event and (user := event.step_failure_data.user_failure_data):
                found = user.metadata.get(_FAILED)
                if isinstance(found, dg.JsonMetadataValue):
                    failed |= cast("dict[str, Any]", found.value)
                said = said or user.description or ""
        return cls({u: Failed.of(each) for u, each in failed.items()}, said)

    def as_dagster_has_it(self, shown: Mapping[str, Any]) -> PlainFailure:
        """For a run to raise.

        Args:
            shown: what people read beside the message, as metadata.
        """
        failed = {u: each.as_json() for u, each in self.nodes.items()}
        return PlainFailure(self.said, {**shown, _FAILED: dg.MetadataValue.json(failed)})
