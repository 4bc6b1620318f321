"""The assets of an environment at one revision: their keys, specs and checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dagster as dg
from dagster_dbt import DbtProject
from dagster_dbt.asset_utils import get_upstream_unique_ids

from dbt_orchestration.assets.columns import Columns
from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.assets.names import distinct_checks
from dbt_orchestration.assets.translator import (
    ENVIRONMENT,
    EnvironmentTranslator,
    partitions_check_spec,
    test_spec,
    unit_test_specs,
)
from dbt_orchestration.dagster_internals import TagSelection
from dbt_orchestration.dbt.selection import Parsed, is_asset
from dbt_orchestration.settings.project_meta import ProjectError


@dataclass(frozen=True)
class DbtAssets:
    """An environment's dbt assets, and what else wants to know about them."""

    definition: dg.AssetsDefinition
    keys: Mapping[str, dg.AssetKey]
    """Asset key by dbt unique id, sources included."""
    sources: Mapping[str, dg.AssetSpec]
    """The sources that some asset reads, by dbt unique id."""
    checks: Mapping[dg.AssetCheckKey, str]
    """The dbt unique id of each test."""
    env: EnvironmentContext

    @property
    def translator(self) -> EnvironmentTranslator:
        return self.env.translator

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.env.revision.manifest

    @property
    def project(self) -> Parsed:
        """What a selection is of."""
        return Parsed.of(self.env.revision)

    @property
    def nodes(self) -> Mapping[str, dg.AssetKey]:
        """Asset key by dbt unique id of what dbt builds."""
        return {u: key for u, key in self.keys.items() if u not in self.sources}


def everything(dbt: DbtAssets) -> dg.AssetSelection:
    """All assets of an environment with the checks on them, and the checks on sources."""
    sources = {spec.key for spec in dbt.sources.values()}
    checks = [spec.key for spec in dbt.definition.check_specs if spec.asset_key in sources]
    return dg.AssetSelection.assets(dbt.definition) | dg.AssetSelection.checks(*checks)


def of_environment(dbt: DbtAssets) -> dg.AssetSelection:
    """All that an environment's sensors may start, in words that fit on their pages."""
    selection = TagSelection(key=ENVIRONMENT, value=dbt.env.name, include_sources=True)
    sources = {spec.key for spec in dbt.sources.values() if ENVIRONMENT not in spec.tags}
    checks = [spec.key for spec in dbt.definition.check_specs if spec.asset_key in sources]
    return selection | dg.AssetSelection.checks(*checks) if checks else selection


def asset_specs(
    manifest: Mapping[str, Any],
    translator: EnvironmentTranslator,
    project: DbtProject,
    selected: Collection[str],
) -> dict[str, dg.AssetSpec]:
    """The specs of the ``selected`` nodes and of the sources that they read, by unique id."""
    nodes = {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if unique_id in selected and is_asset(node)
    }
    sources = {
        parent
        for node in nodes.values()
        for parent in get_upstream_unique_ids(manifest, node)
        if parent.startswith("source.")
    }
    wanted = [*nodes, *sorted(sources)]
    specs = {uid: translator.get_asset_spec(manifest, uid, project) for uid in wanted}
    columns = Columns(manifest, {}, {})
    for uid in sources:
        metadata = {**specs[uid].metadata, **columns.metadata(uid)}
        specs[uid] = specs[uid].replace_attributes(metadata=metadata)
    return specs


def check_specs(
    manifest: Mapping[str, Any],
    translator: EnvironmentTranslator,
    project: DbtProject,
    specs: Mapping[str, dg.AssetSpec],
    keys: Mapping[str, dg.AssetKey],
) -> Sequence[dg.AssetCheckSpec]:
    """A check for each test on an asset in ``specs``, and one that all partitions were built.

    Args:
        keys: asset keys by unique id, sources included.
    """
    checks = []

    @cache
    def depth(unique_id: str) -> int:
        node = manifest["nodes"].get(unique_id)
        above = get_upstream_unique_ids(manifest, node) if node else ()
        return 1 + max(map(depth, above), default=0)

    for unique_id, node in sorted(manifest["nodes"].items()):
        if node["resource_type"] != "test":
            continue
        named = [
            translator.get_asset_check_spec(specs[parent], manifest, unique_id, project)
            for parent in node["depends_on"]["nodes"]
            if parent in specs
        ]
        parents = get_upstream_unique_ids(manifest, node) & specs.keys()
        if any(named):
            checks += [next(check for check in named if check)]
        elif parents:
            last = max(parents, key=lambda parent: (depth(parent), parent))
            checks.append(test_spec(node, keys[last]))
    checks += unit_test_specs(manifest, keys)
    checks = [*distinct_checks(checks)]
    checks += [partitions_check_spec(spec.key) for spec in specs.values() if spec.partitions_def]
    return checks


def refuse_two_nodes_of_one_key(
    manifest: Mapping[str, Any], keys: Mapping[str, dg.AssetKey]
) -> None:
    """Raises:
    ProjectError: two nodes have one asset key; names their files.
    """
    files: dict[dg.AssetKey, str] = {}
    for unique_id, key in keys.items():
        node = manifest["nodes"].get(unique_id)
        if node is None:
            continue
        if key in files:
            raise ProjectError(
                f"{files[key]} and {node['original_file_path']} have the same asset key"
                f" {key.to_user_string()}: give one of them meta.dagster.asset_key"
            )
        files[key] = node["original_file_path"]


def refuse_keys_of_ours(
    manifest: Mapping[str, Any], keys: Mapping[str, dg.AssetKey], ours: Collection[dg.AssetKey]
) -> None:
    """Raises:
    ProjectError: a node has the key of an asset that every environment has; names its file.
    """
    for unique_id, key in keys.items():
        if key in ours and (node := manifest["nodes"].get(unique_id)):
            raise ProjectError(
                f"{node['original_file_path']}: the asset key {key.to_user_string()} is that of an"
                " asset which the environment has besides dbt's: give the"
                f" {node['resource_type']} another one with meta.dagster.asset_key"
            )
