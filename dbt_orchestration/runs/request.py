"""What a run is asked to build: a form shows it, a sensor submits it, the run reads it again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.history.order import Order, packed, unpacked
from dbt_orchestration.history.request import ranges_of
from dbt_orchestration.ledger.attempts import CRASH_TAGS
from dbt_orchestration.ledger.run_tags import run_tags
from dbt_orchestration.revisions.explanation import Explanation
from dbt_orchestration.runs.config import BuildConfig

# Of the run of a form: what it asks for. Dagster's UI shows no tag that begins like this.
_REQUEST = ".dagster/dbt_rebuild"
# For which revision it asked.
_REVISION = ".dagster/dbt_rebuild_at"


@dataclass(frozen=True)
class BuildRequest:
    """What a run is asked to build.

    Attributes:
        assets: models, seeds and snapshots to build.
        checks: what is checked, on these assets or on others.
        config: what a person has set.
        order: which partitions, and what is recreated.
        tags: the run's. They name partitions too, where a person has chosen some in Dagster.
    """

    assets: Collection[dg.AssetKey]
    checks: Collection[dg.AssetCheckKey]
    config: BuildConfig = field(default_factory=BuildConfig)
    order: Order = field(default_factory=Order)
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_run(cls, context: dg.AssetExecutionContext, config: BuildConfig) -> BuildRequest:
        """What the run that works now was asked."""
        assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
        tags = context.run.tags
        return cls(assets, checks, config, Order.of_tags(tags), tags)

    @classmethod
    def of_nodes(
        cls,
        dbt: DbtAssets,
        nodes: Collection[str],
        order: Order,
        checks: Collection[dg.AssetCheckKey] = (),
        *,
        config: BuildConfig | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> BuildRequest:
        """Build ``nodes`` (unique ids) with every test on them, and run ``checks``.

        What is adopted is not tested: nobody would know afterwards that it never was. What another
        commit is built of has tests of its own: ``checks``.

        Args:
            config: what a person has set; it may say that no test is to run.
            tags: of the run.
        """
        config = config or BuildConfig()
        untested = order.adopt or order.revision or config.exclude_tests
        assets = {dbt.keys[unique_id] for unique_id in nodes}
        on_them = {
            spec.key
            for spec in dbt.definition.check_specs
            if spec.asset_key in assets
            if not untested or spec.name == PARTITIONS_CHECK
        }
        return cls(assets, on_them | set(checks), config, order, tags or {})

    @staticmethod
    def is_in(tags: Mapping[str, str]) -> bool:
        """Whether these are the tags of a run that asks for another one."""
        return _REQUEST in tags or unpacked(_REQUEST, tags) is not None

    @classmethod
    def of_tags(cls, dbt: DbtAssets, tags: Mapping[str, str]) -> BuildRequest:
        """What ``as_tags`` wrote.

        Raises:
            KeyError: a node is not among the assets any more, or a test among the checks.
        """
        said = unpacked(_REQUEST, tags)
        if said is None:  # as the version before this one wrote it
            said = json.loads(tags[_REQUEST])
            said["order"] = said["config"]
            said.pop("config")
        known = {tuple(_words(key)): key for key in dbt.checks}
        checks = []
        for words in said.get("checks", ()):
            if tuple(words) not in known:
                raise KeyError(words[0])
            checks.append(known[tuple(words)])
        return cls.of_nodes(
            dbt,
            said["nodes"],
            Order(**said["order"]),
            checks,
            config=BuildConfig(**said.get("config", {})),
            tags=said.get("tags", {}),
        )

    def as_tags(self, dbt: DbtAssets) -> dict[str, str]:
        """All of it, for the run of a form that asks for it."""
        nodes = sorted(u for u, key in dbt.nodes.items() if key in self.assets)
        by_itself = self.of_nodes(dbt, nodes, self.order, config=self.config).checks
        alone = sorted(_words(key) for key in {*self.checks} - {*by_itself})
        said = {
            "nodes": nodes,
            "order": asdict(self.order),
            "checks": alone,
            "config": self.config.model_dump(),
            "tags": dict(self.tags),
        }
        return {**packed(_REQUEST, said), _REVISION: dbt.env.revision.digest}

    @staticmethod
    def revision_in(tags: Mapping[str, str]) -> str:
        """The digest of the revision for which ``as_tags`` wrote these; "" if that is not known."""
        return tags.get(_REVISION, "")

    @staticmethod
    def nothing() -> dict[str, str]:
        """The tags of a form that asks for no run, also if it is launched again after it has."""
        return {**packed(_REQUEST, None), _REVISION: ""}

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
            asset_selection=sorted(self.assets),
            asset_check_keys=sorted(self.checks),
            run_config=self._run_config(dbt),
            tags={
                **run_tags(dbt.env.name, dbt.env.revision, why),
                **CRASH_TAGS,
                **self.order.as_tags(),
                **self.tags,
                **(tags or {}),
            },
        )

    def _run_config(self, dbt: DbtAssets) -> dict[str, Any]:
        if self.config == BuildConfig():
            return {}
        return {"ops": {dbt.definition.op.name: {"config": self.config.model_dump()}}}


def _words(key: dg.AssetCheckKey) -> list[str]:
    return [key.name, *key.asset_key.path]


def order_of(
    dbt: DbtAssets,
    nodes: Mapping[str, Explanation],
    partitions: Mapping[str, Collection[str]],
) -> Order:
    """What is to be built of nodes that are due.

    Args:
        partitions: those that are due of each node; of nodes that are not there the newest.
    """
    whole = {u for u, why in nodes.items() if why.action == "full_refresh"}
    others = {u: keys for u, keys in partitions.items() if u in nodes.keys() - whole}
    return Order(rebuild=sorted(whole), partitions=ranges(dbt, others))


def ranges(dbt: DbtAssets, partitions: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Partitions by unique id, as ``Order`` names them; without nodes that have none."""
    now = datetime.now(UTC)
    models = {u: dbt.env.model(u) for u in partitions}
    return {
        u: list(ranges_of(model, set(partitions[u]), now)) for u, model in models.items() if model
    }
