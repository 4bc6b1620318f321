"""How a dbt node looks as a Dagster asset."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject
from dagster_dbt.asset_utils import (
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_PROJECT_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
    DAGSTER_DBT_UNIQUE_ID_METADATA_KEY,
    get_upstream_unique_ids,
)

from dbt_orchestration.assets.source_files import CODE_REFERENCES, SourceFiles
from dbt_orchestration.dbt.groups import as_owner, group_name, owners_of, valid_name
from dbt_orchestration.history.partitions import PartitionConfig, partition_config
from dbt_orchestration.settings.project_meta import read_meta

# The tag of every asset of an environment, by which the UI can filter.
ENVIRONMENT = "dbt/environment"
PARTITIONS_CHECK = "all_partitions_built"
MADE_FROM_CLOCK = "made from the clock, when the project was parsed and not when it is built"
# dagster-dbt hangs these Python objects on every asset, which the UI shows as unserializable, and a
# reference to the server's own copy of the file.
_NOT_OURS = {
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_PROJECT_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
    CODE_REFERENCES,
}
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]+")


class DefaultTranslator(DagsterDbtTranslator):
    """How nodes look unless somebody says otherwise: a translator as any of dagster-dbt's.

    Keys begin with ``key_prefix``, so that many environments live in one instance; but for the key
    of a source that states one (``meta.dagster.asset_key``), which is an asset of somebody else's.
    Groups begin with ``group_prefix``, so that who materializes all of a group builds into one
    environment.

    Assets carry little metadata on purpose: the raw SQL and the manifest's every column would
    triple the snapshot that the webserver and the daemon load. The SQL is one click away through
    the code reference.
    """

    def __init__(self, key_prefix: Sequence[str] = (), group_prefix: str = "") -> None:
        super().__init__(
            DagsterDbtTranslatorSettings(
                enable_source_tests_as_checks=True,
                enable_source_metadata=False,
                enable_duplicate_source_asset_keys=True,
            )
        )
        self.key_prefix = list(key_prefix)
        self.group_prefix = group_prefix

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        key = super().get_asset_key(dbt_resource_props)
        foreign = dbt_resource_props["resource_type"] == "source" and states_key(dbt_resource_props)
        return key if foreign or not self.key_prefix else key.with_prefix(self.key_prefix)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return group_of(self.group_prefix, group_name(dbt_resource_props))

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        group = dbt_resource_props.get("group")
        return owners_of(dbt_resource_props, group if isinstance(group, Mapping) else None) or None

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        kind = dbt_resource_props["resource_type"]
        return dbt_resource_props.get("description") or f"dbt {kind} {dbt_resource_props['name']}"

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        return tags_of(dbt_resource_props)

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        config = dbt_resource_props.get("config") or {}
        name = str(dbt_resource_props.get("relation_name") or "").replace('"', "")
        return {
            "dagster/table_name": name or dbt_resource_props["name"],
            **({"materialized": config["materialized"]} if config.get("materialized") else {}),
        }


class EnvironmentTranslator(DagsterDbtTranslator):
    """What every asset of an environment has, however it looks.

    Its fingerprint as code version, its file, its partitions, its freshness policy, and
    dependencies on assets as they are called here. Another translator says how it looks.

    Args:
        environment: its name.
        timezone: of freshness policies that name none.
        fingerprints: by unique id.
        clock: nodes whose config is made from the clock.
        files: where people open the files of nodes.
        docs: the address of the environment's dbt docs; "" if there is none.
        translator: says how they look.
    """

    def __init__(
        self,
        environment: str,
        timezone: str,
        fingerprints: Mapping[str, str],
        clock: Collection[str],
        *,
        files: SourceFiles,
        docs: str = "",
        translator: DagsterDbtTranslator,
    ) -> None:
        super().__init__(translator.settings)
        self.environment = environment
        self.timezone = timezone
        self._translator = translator
        self._fingerprints = fingerprints
        self._clock = clock
        self._files = files
        self._docs = docs
        self._partitions: dict[str, PartitionConfig | None] = {}
        self._told_apart: Collection[str] = ()
        self._specs: dict[str, dg.AssetSpec] = {}

    def partition_config(self, node: Mapping[str, Any]) -> PartitionConfig | None:
        unique_id = node["unique_id"]
        if unique_id not in self._partitions:
            self._partitions[unique_id] = partition_config(node)
        return self._partitions[unique_id]

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        if unique_id in self._specs:
            return self._specs[unique_id]
        node = self.get_resource_props(manifest, unique_id)
        spec = self._translator.get_asset_spec(manifest, unique_id, project)
        metadata = {key: value for key, value in spec.metadata.items() if key not in _NOT_OURS}
        metadata |= self._files.metadata(node)
        if self._docs:
            page = f"{self._docs}#!/{node['resource_type']}/{unique_id}"
            metadata["docs"] = dg.MetadataValue.url(page)
        if unique_id in self._clock:
            metadata["config"] = MADE_FROM_CLOCK
        told_apart = unique_id in self._told_apart
        foreign = unique_id.startswith("source.") and states_key(node)
        spec = spec.replace_attributes(
            key=dg.AssetKey([*spec.key.path, "source"]) if told_apart else spec.key,
            deps=self._deps(manifest, node, project),
            metadata=metadata,
            tags=spec.tags if foreign else {**spec.tags, ENVIRONMENT: self.environment},
            # dagster-dbt's own is a digest of the raw SQL, which misses macros, config and vars,
            # and is another one after every comment.
            code_version=self._fingerprints.get(unique_id),
            partitions_def=self.get_partitions_def(node),
        )
        # Nobody reports to Dagster when a source is loaded elsewhere: no policy could be met.
        if not unique_id.startswith("source.") and (
            policy := freshness_policy(node, self.timezone)
        ):
            spec = spec.replace_attributes(freshness_policy=policy)
        self._specs[unique_id] = spec
        return spec

    def _deps(
        self, manifest: Mapping[str, Any], node: Mapping[str, Any], project: DbtProject | None
    ) -> Sequence[dg.AssetDep]:
        deps: dict[dg.AssetKey, dg.AssetDep] = {}
        for unique_id in sorted(get_upstream_unique_ids(manifest, node)):
            key = self.get_asset_spec(manifest, unique_id, project).key
            parent = self.get_resource_props(manifest, unique_id)
            mapping = self.get_partition_mapping(node, parent)
            deps.setdefault(key, dg.AssetDep(key, partition_mapping=mapping))
        return list(deps.values())

    def tell_sources_apart(self, manifest: Mapping[str, Any]) -> None:
        """Give sources that have the key of a model one more part: ``crm/users/source``."""
        taken = {self._translator.get_asset_key(node) for node in manifest["nodes"].values()}
        self._told_apart = {
            unique_id
            for unique_id, source in manifest["sources"].items()
            if self._translator.get_asset_key(source) in taken
        }

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        key = self._translator.get_asset_key(dbt_resource_props)
        told_apart = dbt_resource_props["unique_id"] in self._told_apart
        return dg.AssetKey([*key.path, "source"]) if told_apart else key

    def get_asset_check_spec(
        self,
        asset_spec: dg.AssetSpec,
        manifest: Mapping[str, Any],
        unique_id: str,
        project: DbtProject | None,
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        node = manifest["nodes"][unique_id]
        return spec and _described(spec._replace(name=valid_name(node["name"])), node)

    def get_partitions_def(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.PartitionsDefinition | None:
        config = self.partition_config(dbt_resource_props)
        return config.definition if config else None

    def get_partition_mapping(
        self,
        dbt_resource_props: Mapping[str, Any],
        dbt_parent_resource_props: Mapping[str, Any],
    ) -> dg.PartitionMapping | None:
        config = self.partition_config(dbt_resource_props)
        parent = self.partition_config(dbt_parent_resource_props)
        if config is None or parent is None or config.definition == parent.definition:
            return None
        # A parent that begins later simply has no rows for the days before.
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


def group_of(environment: str, name: str) -> str:
    """The group of an environment's assets that is called ``name`` there."""
    return f"{environment}_{name}" if environment else name


def tags_of(node: Mapping[str, Any]) -> Mapping[str, str]:
    """dbt's tags as Dagster takes them."""
    tags = [_NOT_IN_TAGS.sub("_", tag) for tag in node.get("tags") or ()]
    return {tag[:63]: "" for tag in tags}


def states_key(node: Mapping[str, Any]) -> bool:
    """Whether it says which asset it is, by ``meta.dagster.asset_key``."""
    return bool(read_meta(node).asset_key)


def freshness_policy(node: Mapping[str, Any], timezone: str) -> dg.FreshnessPolicy | None:
    """Dagster's freshness policy of a node that states one.

    A source states dbt's own ``freshness`` (``warn_after``, ``error_after``); any other node
    ``meta.dagster.freshness``: ``deadline_cron`` with ``lower_bound_delta_hours`` (in
    ``timezone`` unless it names one), or ``fail_after_hours`` with optional ``warn_after_hours``.

    Raises:
        ProjectError: what it states is neither.
    """
    if node["resource_type"] == "source":
        stated = node.get("freshness") or {}
        fail, warn = (_period(stated.get(name)) for name in ("error_after", "warn_after"))
        if fail is None:
            return None
        return dg.FreshnessPolicy.time_window(fail, warn if warn and warn < fail else None)
    freshness = read_meta(node).freshness
    return freshness.policy(timezone) if freshness else None


def _period(stated: Mapping[str, Any] | None) -> timedelta | None:
    if not stated or not stated.get("count"):
        return None
    return timedelta(**{f"{stated['period']}s": stated["count"]})


def _described(spec: dg.AssetCheckSpec, node: Mapping[str, Any]) -> dg.AssetCheckSpec:
    kind = "unit test" if node["resource_type"] == "unit_test" else "test"
    name = "" if spec.name == node["name"] else f" {node['name']}"
    return spec._replace(
        description=node.get("description") or f"dbt {kind}{name}, {node['original_file_path']}"
    )


def test_spec(test: Mapping[str, Any], key: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of a test that names no single node: dagster-dbt leaves such tests out.

    A unit test always blocks: dbt does not build a model whose unit test fails.
    """
    severity = (test.get("config") or {}).get("severity") or "error"
    return _described(
        dg.AssetCheckSpec(
            name=valid_name(test["name"]),
            asset=key,
            blocking=severity.lower() == "error",
            metadata={DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: test["unique_id"]},
        ),
        test,
    )


def unit_test_specs(
    manifest: Mapping[str, Any], keys: Mapping[str, dg.AssetKey]
) -> Sequence[dg.AssetCheckSpec]:
    """A check for every unit test of a model that is an asset."""
    return [
        test_spec(test, keys[model])
        for _, test in sorted((manifest.get("unit_tests") or {}).items())
        for model in test["depends_on"]["nodes"][:1]
        if model in keys
    ]


def partitions_check_spec(key: dg.AssetKey) -> dg.AssetCheckSpec:
    """A blocking check that fails when batches failed while others succeeded.

    Dagster counts an asset as built once any of its partitions was materialized in a run. A failed
    blocking check is what makes "from failure" take it again.
    """
    return dg.AssetCheckSpec(
        name=PARTITIONS_CHECK,
        asset=key,
        blocking=True,
        description="Every partition that the run was to build was built.",
    )


def exposure_key(environment: str, exposure: Mapping[str, Any]) -> dg.AssetKey:
    """The key of an exposure of the manifest."""
    return dg.AssetKey([environment, "exposure", exposure["name"]])


def exposure_specs(
    manifest: Mapping[str, Any], environment: str, keys: Mapping[str, dg.AssetKey]
) -> Sequence[dg.AssetSpec]:
    """Dashboards and other exposures as external assets, so that lineage ends where people look."""
    specs = []
    for exposure in (manifest.get("exposures") or {}).values():
        owner = exposure.get("owner") or {}
        owners = owner.get("email") or owner.get("name") or []
        parents = [keys[node] for node in exposure["depends_on"]["nodes"] if node in keys]
        specs.append(
            dg.AssetSpec(
                key=exposure_key(environment, exposure),
                deps=parents,
                description=exposure.get("description") or exposure.get("label"),
                group_name=group_of(environment, "exposures"),
                owners=[as_owner(o) for o in ([owners] if isinstance(owners, str) else owners)],
                tags={**tags_of(exposure), ENVIRONMENT: environment},
                kinds={exposure["type"].lower()},
                metadata={
                    **({"url": dg.MetadataValue.url(exposure["url"])} if exposure["url"] else {}),
                    **({"maturity": exposure["maturity"]} if exposure.get("maturity") else {}),
                    "dbt/unique_id": exposure["unique_id"],
                },
            )
        )
    return specs
