"""A code location: what an environment consists of."""

from __future__ import annotations

import gc
import warnings

import dagster as dg

# Versions are pinned and contract-tested; a page of warnings at each load would hide real ones.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from dbt_orchestration.assets.definition import dbt_assets  # noqa: E402
from dbt_orchestration.assets.provenance import savings_spec  # noqa: E402
from dbt_orchestration.assets.raw import raw_assets  # noqa: E402
from dbt_orchestration.assets.translator import exposure_specs  # noqa: E402
from dbt_orchestration.automation.jobs import jobs_and_schedules  # noqa: E402
from dbt_orchestration.automation.push import push_sensor  # noqa: E402
from dbt_orchestration.automation.rebuild import history_job, rebuild_job  # noqa: E402
from dbt_orchestration.revisions.current import loaded_revision, open_revision  # noqa: E402
from dbt_orchestration.revisions.parse import PrepareError, Revision  # noqa: E402
from dbt_orchestration.setting_types import named  # noqa: E402
from dbt_orchestration.settings import Settings, load_settings  # noqa: E402

_built: dict[tuple[str, str], dg.Definitions] = {}

# Manifests are hundreds of thousands of objects that live as long as the process. Python's default
# walks them all again and again: a quarter of the CPU of a run on 1,000 models.
gc.set_threshold(200_000, 20, 100)


def load_definitions(name: str) -> dg.Definitions:
    """The definitions of the environment ``name`` of the installation.

    Dagster asks four times for each load; they are built once.

    Raises:
        SettingsError: a setting is wrong, or there is no such environment.
    """
    settings = load_settings()
    key = name, loaded_revision(settings, name)
    if key not in _built:
        _built[key] = build_definitions(settings, name)
    return _built[key]


def build_definitions(settings: Settings, name: str) -> dg.Definitions:
    """Everything of the environment ``name``, from the revision that it is now.

    In a run, from the revision that the code server had loaded when the run was launched. Where
    nothing is prepared yet, only the sensor that will.
    """
    digest = loaded_revision(settings, name)
    try:
        revision = open_revision(settings, name, digest) if digest else None
    except PrepareError:
        if not settings.environment(name).push.enabled:
            raise
        revision = None  # the sensor prepares it anew
    if revision is None:
        return dg.Definitions(sensors=[push_sensor(settings, name, None, None)])
    return definitions_of(settings, name, revision)


def definitions_of(settings: Settings, name: str, revision: Revision) -> dg.Definitions:
    """Everything of the environment ``name`` at one revision.

    Raises:
        SettingsError, ProjectError: the project, or what the settings say of it,
            cannot become assets.
    """
    environment = settings.environment(name)
    pool = warehouse_pool(settings)
    dbt = dbt_assets(settings, name, revision, pool)
    raw = settings.load_raw and raw_assets(settings, name, dbt.sources, revision, pool)
    loaded = raw.keys if raw else ()
    jobs, schedules = jobs_and_schedules(environment, name, dbt)
    by_hand, starter = rebuild_job(name, revision, dbt)
    pushes = environment.push.enabled
    return dg.Definitions(
        assets=[
            dbt.definition,
            *([raw] if raw else []),
            *(source for source in dbt.sources.values() if source.key not in loaded),
            *exposure_specs(revision.manifest, dbt.translator, dbt.keys),
            *([savings_spec(name, environment.branch)] if pushes else []),
        ],
        jobs=[
            *jobs,
            *([dg.define_asset_job(named(name, "load_raw"), [raw])] if raw else []),
            by_hand,
            *([history_job(settings, name, revision, dbt, pool)] if pushes else []),
        ],
        schedules=schedules,
        sensors=[
            *([push_sensor(settings, name, revision, dbt, loaded)] if pushes else []),
            starter,
        ],
        executor=dg.in_process_executor,
    )


def check_revision(settings: Settings, name: str, revision: Revision) -> None:
    """Raises:
    PrepareError: no code location could be made of the revision; says why.
    """
    try:
        dg.Definitions.validate_loadable(definitions_of(settings, name, revision))
    except Exception as error:
        raise PrepareError(f"it cannot be loaded: {error}") from None


def warehouse_pool(settings: Settings) -> str:
    """The concurrency pool of the warehouse that the settings point to."""
    return f"warehouse_{settings.profile}"
