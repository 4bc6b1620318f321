"""The dbt project of an environment as one multi-asset: one run is one step and one dbt command."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject
from dagster_dbt.asset_utils import (
    DAGSTER_DBT_UNIQUE_ID_METADATA_KEY,
)

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.assets.dbt_assets import (
    DbtAssets,
    asset_specs,
    check_specs,
    refuse_two_nodes_of_one_key,
)
from dbt_orchestration.assets.names import StandIns
from dbt_orchestration.assets.source_files import SourceFiles
from dbt_orchestration.assets.translator import (
    DefaultTranslator,
    EnvironmentTranslator,
)
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.dbt.selection import Parsed, nodes_of_environment
from dbt_orchestration.history.order import Order
from dbt_orchestration.history.partitions import check_nodes
from dbt_orchestration.revisions.store import open_commit
from dbt_orchestration.runs.config import BuildConfig
from dbt_orchestration.runs.execute import Build
from dbt_orchestration.runs.scratch import scratch_folder
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.project_meta import refuse_on_change


def dbt_assets(
    settings: Settings,
    environment: str,
    revision: Revision,
    pool: str,
    translator: DagsterDbtTranslator | None = None,
) -> DbtAssets:
    """The multi-asset of every model, seed and snapshot, with every test as a check.

    Args:
        translator: says how they look. Default: ``DefaultTranslator``, with the environment's name
            before each key and group.

    Raises:
        ProjectError: a node cannot become an asset; says which file and why.
    """
    manifest = revision.manifest
    check_nodes(manifest, datetime.now(UTC))
    translated = EnvironmentTranslator(
        environment,
        settings.environment(environment).full_build.timezone,
        revision.fingerprints,
        revision.clock,
        files=SourceFiles.of(settings, revision),
        docs=settings.docs.page_of(environment),
        translator=translator or DefaultTranslator([environment], environment),
    )
    translated.tell_sources_apart(manifest)
    project = DbtProject(
        revision.project_dir,
        target_path=revision.directory,
        profiles_dir=DbtTarget.of(settings, environment, revision.project_dir).profiles_dir,
        profile=settings.profile,
        target=settings.environment(environment).target,
    )
    chosen = settings.environment(environment)
    refuse_on_change(manifest, chosen.project_file.on_change)
    selected = nodes_of_environment(environment, Parsed.of(revision), chosen)
    specs = asset_specs(manifest, translated, project, selected)
    keys = {unique_id: spec.key for unique_id, spec in specs.items()}
    refuse_two_nodes_of_one_key(manifest, keys)
    assets = [specs[unique_id] for unique_id in specs if not unique_id.startswith("source.")]
    checks = check_specs(manifest, translated, project, specs, keys)
    unique_ids: dict[dg.AssetKey | dg.AssetCheckKey, str] = {k: uid for uid, k in keys.items()}
    for check in checks:
        if check.metadata:
            unique_ids[check.key] = check.metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY]

    env = EnvironmentContext(settings, environment, revision, translated, unique_ids)

    def ordered(context: dg.AssetExecutionContext) -> EnvironmentContext:
        """The commit that the run is to build, which is seldom another one than the loaded."""
        digest = Order.of_tags(context.run.tags).revision
        if digest in {"", revision.digest}:
            return env
        storage = context.instance.defs_state_storage
        try:
            other = open_commit(settings, environment, digest, storage)
        except PrepareError as error:
            raise PlainFailure(str(error), allow_retries=False) from None
        return dbt_assets(settings, environment, other, pool, translator).env

    defined = StandIns.of(assets, checks)

    @dg.multi_asset(
        name=f"dbt_{environment}",
        specs=defined.specs,
        check_specs=defined.checks,
        can_subset=True,
        pool=pool,
        backfill_policy=dg.BackfillPolicy.single_run(),
        allow_arbitrary_check_specs=True,
    )
    def build(context: dg.AssetExecutionContext, config: BuildConfig) -> Iterator[Any]:
        at = ordered(context)
        with scratch_folder(settings, context.instance, context.run.run_id) as scratch:
            yield from Build(at, context, config, scratch).run()

    sources = {uid: spec for uid, spec in specs.items() if uid.startswith("source.")}
    tests = {key: uid for key, uid in unique_ids.items() if isinstance(key, dg.AssetCheckKey)}
    definition = dagster_internals.MixedPartitionsAssets.of(
        dagster_internals.with_keys(build, defined.keys, checks)
    )
    return DbtAssets(definition, keys, sources, tests, env)
