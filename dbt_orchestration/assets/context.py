"""One environment at one revision: what its assets are, and the dbt nodes behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from dbt_orchestration.assets.columns import Columns
from dbt_orchestration.assets.translator import EnvironmentTranslator
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.partitions import PartitionConfig, PartitionError
from dbt_orchestration.settings.models import Environment, Settings


@dataclass(frozen=True)
class EnvironmentContext:
    """What every part of a run has to know.

    Attributes:
        unique_ids: the dbt unique id behind each asset, source and check.
    """

    settings: Settings
    name: str
    revision: Revision
    translator: EnvironmentTranslator
    unique_ids: Mapping[dg.AssetKey | dg.AssetCheckKey, str]

    @property
    def environment(self) -> Environment:
        return self.settings.environment(self.name)

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Any]]:
        """Models, seeds, snapshots and data tests of the manifest, by unique id."""
        nodes: Mapping[str, Mapping[str, Any]] = self.revision.manifest["nodes"]
        return nodes

    @cached_property
    def keys(self) -> Mapping[str, dg.AssetKey]:
        """Asset key by unique id, sources included."""
        return {uid: key for key, uid in self.unique_ids.items() if isinstance(key, dg.AssetKey)}

    @cached_property
    def columns(self) -> Columns:
        """What is known of the columns of nodes and sources."""
        return Columns(self.revision.manifest, self.revision.lineage, self.keys)

    @cached_property
    def target(self) -> DbtTarget:
        return DbtTarget.of(self.settings, self.name, self.revision.project_dir)

    def model(self, unique_id: str) -> PartitionConfig | None:
        """How a node is partitioned, if it is."""
        return self.translator.partition_config(self.nodes[unique_id])

    def partitioned(self, unique_id: str) -> PartitionConfig:
        """How a node is partitioned that is."""
        model = self.model(unique_id)
        assert model is not None
        return model

    def unique_id(self, name: str, field: str) -> str:
        """The node that a person calls ``name``.

        Raises:
            PartitionError: there is none; says that ``field`` names it.
        """
        if name in self.keys:
            return name
        for unique_id in self.keys:
            if unique_id in self.nodes and self.nodes[unique_id]["name"] == name:
                return unique_id
        raise PartitionError(f"{field}: there is no model {name}")
