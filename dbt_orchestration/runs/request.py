"""What a run is asked to build: a form shows it, a sensor submits it, the run reads it again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.history.request import ranges_of
from dbt_orchestration.ledger.attempts import CRASH_TAGS
from dbt_orchestration.ledger.run_tags import run_tags
from dbt_orchestration.runs.config import BuildConfig


@dataclass(frozen=True)
class BuildRequest:
    """What a run is asked to build.

    Attributes:
        assets: models, seeds and snapshots to build.
        checks: what is checked, on these assets or on others.
        config: which partitions, and what is recreated.
        tags: the run's. They name partitions too, where a person has chosen some in Dagster.
    """

    assets: Collection[dg.AssetKey]
    checks: Collection[dg.AssetCheckKey]
    config: BuildConfig
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_run(cls, context: dg.AssetExecutionContext, config: BuildConfig) -> BuildRequest:
        """What the run that works now was asked."""
        assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
        return cls(assets, checks, config, context.run.tags)

    @classmethod
    def of_nodes(
        cls,
        dbt: DbtAssets,
        nodes: Collection[str],
        config: BuildConfig,
        checks: Collection[dg.AssetCheckKey] = (),
    ) -> BuildRequest:
        """Build ``nodes`` (unique ids) with every test on them, and run ``checks``."""
        assets = {dbt.keys[unique_id] for unique_id in nodes}
        on_them = {spec.key for spec in dbt.definition.check_specs if spec.asset_key in assets}
        return cls(assets, on_them | set(checks), config)

    @classmethod
    def of_text(cls, dbt: DbtAssets, text: str) -> BuildRequest:
        """What ``as_text`` wrote.

        Raises:
            KeyError: a node is not among the assets any more.
        """
        said = json.loads(text)
        return cls.of_nodes(dbt, said["nodes"], BuildConfig(**said["config"]))

    def as_text(self, dbt: DbtAssets) -> str:
        """Nodes and config, for a tag."""
        nodes = sorted(u for u, key in dbt.nodes.items() if key in self.assets)
        return json.dumps({"nodes": nodes, "config": self._config})

    def run_request(
        self, dbt: DbtAssets, run_key: str, why: str, tags: Mapping[str, str] | None = None
    ) -> dg.RunRequest:
        """The run that Dagster is asked for.

        Args:
            run_key: Dagster starts each only once.
            why: in words.
            tags: those that say who asks.
        """
        return dg.RunRequest(
            run_key=run_key,
            run_config={"ops": {dbt.definition.node_def.name: {"config": self._config}}},
            asset_selection=sorted(self.assets),
            asset_check_keys=sorted(self.checks),
            tags={
                **run_tags(dbt.env.name, dbt.env.revision, why),
                **CRASH_TAGS,
                **(tags or {}),
            },
        )

    @property
    def _config(self) -> dict[str, object]:
        return self.config.model_dump(exclude_defaults=True)


def ranges(dbt: DbtAssets, partitions: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Partitions by unique id, as ``BuildConfig`` names them; without nodes that have none."""
    now = datetime.now(UTC)
    models = {u: dbt.env.model(u) for u in partitions}
    return {
        u: list(ranges_of(model, set(partitions[u]), now)) for u, model in models.items() if model
    }
