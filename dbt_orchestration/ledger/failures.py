"""What failed in a run, and why: the run says so with its failure, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import dagster as dg

_FAILED = "dbt/failed"
_LONGEST = 1_000


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed.

    Attributes:
        nodes: why, by the unique id of each node and test that failed; not of what was skipped.
        fingerprints: of these nodes, as the run was to build them.
        said: the whole message; "" of a run whose process died.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
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
        nodes = {u: str(each["why"]) for u, each in failed.items()}
        return cls(nodes, {u: str(each["fingerprint"]) for u, each in failed.items()}, said)

    def as_dagster_has_it(self, shown: Mapping[str, Any]) -> dg.Failure:
        """For a run to raise.

        Args:
            shown: what people read beside the message, as metadata.
        """
        failed = {
            u: {"why": why[:_LONGEST], "fingerprint": self.fingerprints.get(u, "")}
            for u, why in self.nodes.items()
        }
        return dg.Failure(self.said, metadata={**shown, _FAILED: dg.MetadataValue.json(failed)})
