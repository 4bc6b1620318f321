"""What a code location has of an environment: assets, jobs, schedules and sensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import dagster as dg
from dagster_dbt import DagsterDbtTranslator

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets, refuse_keys_of_ours
from dbt_orchestration.assets.translator import exposure_specs, states_key
from dbt_orchestration.automation.credits.definitions import credits_definitions
from dbt_orchestration.automation.docs import docs_sensor
from dbt_orchestration.automation.jobs import jobs_and_schedules
from dbt_orchestration.automation.lightdash.definitions import lightdash_definitions
from dbt_orchestration.automation.morning.definitions import morning_definitions
from dbt_orchestration.automation.newest import newest_commit_check
from dbt_orchestration.automation.orders import follows_check
from dbt_orchestration.automation.push import push_sensor
from dbt_orchestration.automation.telling.sensor import tell_check, tell_sensor
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.dbt.selection import Parsed
from dbt_orchestration.ledger.pushes import pushes_key, pushes_spec
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG
from dbt_orchestration.location.assets import dbt_assets
from dbt_orchestration.location.environment import Environment
from dbt_orchestration.location.flights import raw_assets
from dbt_orchestration.operations.adopt_form import adopt_job
from dbt_orchestration.operations.asked import asked_sensor
from dbt_orchestration.operations.dbt_form import dbt_job
from dbt_orchestration.operations.docs_form import docs_job
from dbt_orchestration.operations.history_form import history_job
from dbt_orchestration.operations.hold_form import roll_back_job, roll_forward_job
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.orphans_form import orphans_job
from dbt_orchestration.operations.pause_form import pause_job, resume_job
from dbt_orchestration.operations.rebuild_form import rebuild_job
from dbt_orchestration.operations.resume_form import resume_build_job
from dbt_orchestration.operations.run_now import run_now_job
from dbt_orchestration.revisions.commits import not_followed
from dbt_orchestration.revisions.current import loaded_revision, loaded_without, open_revision
from dbt_orchestration.revisions.project_file import remarks, with_project_file
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.project_file import ProjectFileError
from dbt_orchestration.settings.project_meta import ProjectError
from dbt_orchestration.settings.types import named


def build_defs(
    environment: Environment, translator: DagsterDbtTranslator | None = None
) -> dg.Definitions:
    """Everything of an environment, for ``dagster.Definitions.merge`` with what else there is.

    Args:
        translator: says how assets look: one of dagster-dbt's, or a subclass of
            ``DefaultTranslator``. Code versions, partitions and freshness are not for it to say.
            Default: ``DefaultTranslator``, with the environment's name before each key and group.

    Raises:
        SettingsError: a setting is wrong.
        PrepareError: there is no commit yet that could be loaded, and the project as it lies does
            not parse.
    """
    settings = environment.as_settings()
    settings.make_state_dir()
    return build_definitions(settings, environment.name, translator)


def build_definitions(
    settings: Settings, name: str, translator: DagsterDbtTranslator | None = None
) -> dg.Definitions:
    """Everything of the environment ``name``, from the revision that it is now.

    In a run, from the revision that the code server had loaded when the run was launched. Where
    nothing is prepared yet, or the platform's settings have come to refuse what is loaded, only the
    sensor that prepares what is pushed next.

    Raises:
        SettingsError: a setting is wrong.
        ProjectError: in a run, or where no branch is followed: the project cannot become assets.
    """
    with warnings.catch_warnings():
        # Contract-tested; a page of warnings at each load would hide real ones.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return _build(settings, name, translator)


def _build(
    settings: Settings, name: str, translator: DagsterDbtTranslator | None
) -> dg.Definitions:
    if idle := settings.without_effect(name):
        dg.get_dagster_logger().warning(idle)
    digest, pushes = loaded_revision(settings, name), settings.environment(name).push.enabled
    try:
        revision = open_revision(settings, name, digest) if digest else None
    except PrepareError:
        # Without its revision a run has no job, and would only fail for that.
        if not pushes or dagster_internals.is_loaded_for_a_run():
            raise
        revision = None  # the sensor prepares it again
    if revision is None:
        return _only_the_sensor(settings, name, translator)
    try:
        made = definitions_of(settings, name, revision, translator)
    except (ProjectFileError, ProjectError) as error:
        # What the commit says was right when it was loaded: now the platform has other rules.
        # Without a sensor no remedy could be loaded.
        if not pushes or not (why := loaded_without(name, str(error))):
            raise
        dg.get_dagster_logger().warning(why)
        return _only_the_sensor(settings, name, translator, why)
    loaded_without(name, "")
    # Another translator may call groups and owners otherwise.
    for said in () if translator else remarks(settings, name, Parsed.of(revision)):
        dg.get_dagster_logger().warning(said)
    return made


def _only_the_sensor(
    settings: Settings, name: str, translator: DagsterDbtTranslator | None, why: str = ""
) -> dg.Definitions:
    """What an environment is that has no commit which could be loaded.

    Args:
        why: the reason, if there is a commit.
    """
    refusal = _refusal(settings, name, translator)
    checks, tellers = _telling(settings, name, None)
    branch = settings.environment(name).branch
    return dg.Definitions(
        assets=[pushes_spec(name, branch, begins=True, cannot_be_loaded=why)],
        asset_checks=[
            newest_commit_check(settings, name, None),
            follows_check(name, branch),
            *checks,
        ],
        # Whoever adopts what is there has to pause before the first commit is loaded.
        jobs=[pause_job(name), resume_job(name)],
        sensors=[push_sensor(settings, name, None, None, refusal=refusal), *tellers],
    )


def definitions_of(
    settings: Settings,
    name: str,
    revision: Revision,
    translator: DagsterDbtTranslator | None = None,
) -> dg.Definitions:
    """Everything of the environment ``name`` at one revision.

    Raises:
        SettingsError, ProjectError: the project, or what the settings say of it,
            cannot become assets.
    """
    settings = with_project_file(settings, name, revision.project_dir)
    environment = settings.environment(name)
    pool = settings.pool

    def assets_of(other: Revision) -> DbtAssets:
        said = with_project_file(settings, name, other.project_dir)
        return dbt_assets(said, name, other, pool, translator)

    dbt = assets_of(revision)
    raw = settings.load_raw and raw_assets(settings, name, dbt.sources, revision, pool)
    raw_keys = raw.keys if raw else ()
    sources = revision.manifest["sources"]
    others = {key for u, key in dbt.keys.items() if u in sources and states_key(sources[u])}
    unfollowed = "" if revision.commit else not_followed(settings)
    jobs, schedules = jobs_and_schedules(environment, name, dbt, unfollowed)
    load, tags = named(name, "load_raw"), {ENVIRONMENT_TAG: name}
    check = partial(check_revision, settings, name, translator=translator)
    loaded = Loaded(settings, name, revision, dbt, assets_of, check)
    follows = environment.push.enabled
    pushes = pushes_spec(name, environment.branch, not_followed=unfollowed)
    told = []
    if environment.lightdash:
        told = [lightdash_definitions(settings, name, environment.lightdash, revision, dbt)]
    checks, tellers = _telling(settings, name, dbt)
    page, writer = morning_definitions(settings, name, dbt)
    told_keys = {key for asset, _, _ in told for key in asset.keys}
    refuse_keys_of_ours(revision.manifest, dbt.keys, {pushes_key(name), *page.keys, *told_keys})
    costs = []
    if environment.credits and settings.warehouse_type == "snowflake":
        costs = [credits_definitions(name, dbt)]
    refusal = _refusal(settings, name, translator)
    push = push_sensor(settings, name, revision, dbt, raw_keys, refusal=refusal)
    docs = docs_job(loaded)
    writes_docs = follows and revision.commit and settings.docs.after_push
    return dg.Definitions(
        assets=[
            dbt.definition,
            *([raw] if raw else []),
            *(source for source in dbt.sources.values() if source.key not in {*raw_keys, *others}),
            *exposure_specs(revision.manifest, name, dbt.keys),
            *([pushes] if follows or tellers else []),
            *(asset for asset, _, _ in told),
            page,
        ],
        asset_checks=[
            *([newest_commit_check(settings, name, revision)] if follows else []),
            *([follows_check(name, environment.branch)] if follows else []),
            *checks,
        ],
        jobs=[
            *jobs,
            *([dg.define_asset_job(load, [raw], run_tags=tags)] if raw else []),
            run_now_job(loaded),
            resume_build_job(loaded),
            dbt_job(loaded),
            docs,
            rebuild_job(loaded),
            adopt_job(loaded),
            orphans_job(loaded),
            *([history_job(loaded)] if follows else []),
            *([roll_back_job(loaded), roll_forward_job(loaded)] if follows else []),
            *(pause_job(name), resume_job(name)),
            *(job for _, job, _ in told),
            *(job for job, _ in costs),
        ],
        schedules=schedules,
        sensors=[
            *([push] if follows else []),
            asked_sensor(name, dbt),
            *(sensor for _, _, sensor in told),
            *([docs_sensor(name, revision, docs)] if writes_docs else []),
            *tellers,
            writer,
            *(sensor for _, sensor in costs),
        ],
    )


def _telling(
    settings: Settings, name: str, dbt: DbtAssets | None
) -> tuple[Sequence[dg.AssetChecksDefinition], Sequence[dg.SensorDefinition]]:
    """What tells people of the environment; nothing if nobody is to be told."""
    notify, asset = settings.notify_of(name), pushes_key(name)
    if notify is None:
        return [], []
    sensor = tell_sensor(settings, name, notify, dbt, asset)
    return [tell_check(name, notify, asset)], [sensor]


def check_revision(
    settings: Settings,
    name: str,
    revision: Revision,
    translator: DagsterDbtTranslator | None = None,
) -> None:
    """Raises:
    PrepareError: no code location could be made of the revision; says why.
    """
    try:
        dg.Definitions.validate_loadable(definitions_of(settings, name, revision, translator))
    except Exception as error:
        raise PrepareError(f"it cannot be loaded: {error}") from None


def _refusal(
    settings: Settings, name: str, translator: DagsterDbtTranslator | None
) -> Callable[[Revision], str] | None:
    """What says why no code location can be made of a commit, if the translator is not our own.

    Only this process has that. A component's cannot be pickled; another one could be, by reference,
    but its module may load all that there is when it is imported elsewhere.
    """
    known: dict[str, str] = {}

    def refusal(revision: Revision) -> str:
        if revision.digest not in known:
            try:
                check_revision(settings, name, revision, translator)
                known[revision.digest] = ""
            except PrepareError as error:
                known[revision.digest] = " ".join(str(error).split())
        return known[revision.digest]

    return refusal if translator else None
