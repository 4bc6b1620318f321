"""What a model says of its history: its policy, as every part of this package reads it.

A commit that is compared may say anything. ``history.partitions`` refuses what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OnChange = Literal["rebuild", "ask", "forward_only"]


@dataclass(frozen=True)
class HistoryPolicy:
    """How a node keeps history.

    Attributes:
        incremental: an ordinary run adds to what runs before it left.
        microbatch: dbt itself cuts that into batches.
        partitions: history can be rebuilt by partition.
        forward_only: the model's owner says that changes are for new partitions only, or that its
            table is never rebuilt (``full_refresh: false``).
        on_change: what the owner says of changes; None if nothing.
    """

    incremental: bool
    microbatch: bool
    partitions: bool
    forward_only: bool
    on_change: OnChange | None = None

    @property
    def keeps_history(self) -> bool:
        """Whether its table may hold what older code left, because its owner wants that."""
        return self.incremental and self.forward_only

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> HistoryPolicy:
        """Read from a node of the manifest."""
        config = node.get("config") or {}
        dagster = _meta(node)
        incremental = config.get("materialized") == "incremental"
        microbatch = config.get("incremental_strategy") == "microbatch"
        return cls(
            incremental,
            microbatch,
            incremental and (microbatch or bool(dagster.get("partitions"))),
            dagster.get("on_change") == "forward_only" or config.get("full_refresh") is False,
            dagster.get("on_change"),
        )


def partition_set(node: Mapping[str, Any]) -> dict[str, str]:
    """What decides which partitions a node has and how long one is; empty if it has none."""
    policy = HistoryPolicy.of(node)
    if not policy.partitions:
        return {}
    declared = partitions_meta(node)
    source = node["config"] if policy.microbatch else declared
    said = {key: source.get(key) for key in ("batch_size", "begin")} | {"end": declared.get("end")}
    return {key: str(value) for key, value in said.items() if value is not None}


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a node says under ``meta.dagster``. Of a commit that is compared it may be anything."""
    dagster = dagster_meta(node)
    return dagster if isinstance(dagster, Mapping) else {}


def partitions_meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """``meta.dagster.partitions`` of a node of any commit; empty if it is nothing of use."""
    declared = _meta(node).get("partitions")
    return declared if isinstance(declared, Mapping) else {}


def dagster_meta(node: Mapping[str, Any]) -> Any:
    """``meta.dagster`` of a node, as it is written; empty if it says nothing."""
    meta = {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}
    return {} if meta.get("dagster") is None else meta["dagster"]
