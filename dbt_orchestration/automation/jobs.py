"""The full build, and jobs by dbt selection, with their schedules."""

from collections.abc import Mapping, Sequence

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets, everything
from dbt_orchestration.dagster_internals import MixedPartitionsJob
from dbt_orchestration.ledger.attempts import RETRY_TAGS
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.held import paused
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG
from dbt_orchestration.revisions.project_file import nodes_of_job
from dbt_orchestration.settings.models import Environment, Schedule
from dbt_orchestration.settings.types import FULL_BUILD, named

SCHEDULE_TAG = "dagster/schedule_name"


def daily_schedule(environment: str) -> str:
    """The name of the schedule that builds everything."""
    return _schedule_name(named(environment, FULL_BUILD))


def daily_tags(environment: str) -> Mapping[str, str]:
    """What Dagster's tags say of the runs that it has started, and of their retries."""
    return {SCHEDULE_TAG: daily_schedule(environment)}


def _schedule_name(job: str) -> str:
    return f"{job}_schedule"


def jobs_and_schedules(
    environment: Environment, name: str, dbt: DbtAssets, not_followed: str = ""
) -> tuple[Sequence[MixedPartitionsJob], Sequence[dg.ScheduleDefinition]]:
    """The jobs of an environment and the schedules of those that have one.

    Args:
        not_followed: why nothing but the schedules builds anything, if that is so.

    Raises:
        SettingsError: a job's selection is wrong, or a part of it matches nothing.
    """
    source_checks = _checks_on(dbt, [spec.key for spec in dbt.sources.values()])
    full = _job(
        name,
        FULL_BUILD,
        everything(dbt),
        "Every model, seed and snapshot; incremental models for their newest partitions."
        + (f" {not_followed}" if not_followed else ""),
    )
    jobs, schedules = [full], [_schedule(name, full, environment.full_build, dbt, source_checks)]
    for job_name, job in environment.jobs.items():
        found = nodes_of_job(dbt.env.settings, name, job_name, dbt.project)
        chosen = dg.AssetSelection.assets(*sorted(dbt.nodes[unique_id] for unique_id in found))
        part = _job(name, job_name, chosen, job.description or job.select)
        jobs.append(part)
        if schedule := environment.schedule_of(job_name):
            schedules.append(_schedule(name, part, schedule, dbt))
    return jobs, schedules


def _job(
    environment: str, name: str, selection: dg.AssetSelection, description: str
) -> MixedPartitionsJob:
    return MixedPartitionsJob.of(
        dg.define_asset_job(
            named(environment, name),
            selection,
            description=description,
            run_tags={ENVIRONMENT_TAG: environment, **RETRY_TAGS},
            executor_def=dg.in_process_executor,
        )
    )


def _checks_on(dbt: DbtAssets, keys: Sequence[dg.AssetKey]) -> Sequence[dg.AssetCheckKey]:
    wanted = set(keys)
    return [spec.key for spec in dbt.definition.check_specs if spec.asset_key in wanted]


def _schedule(
    environment: str,
    job: MixedPartitionsJob,
    schedule: Schedule,
    dbt: DbtAssets,
    source_checks: Sequence[dg.AssetCheckKey] = (),
) -> dg.ScheduleDefinition:
    seeds = {uid: key for uid, key in dbt.keys.items() if uid.startswith("seed.")}
    versions = {spec.key: spec.code_version for spec in dbt.definition.specs}

    @dg.schedule(
        name=_schedule_name(job.name),
        job=job,
        description=job.description,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if schedule.enabled
        else dg.DefaultScheduleStatus.STOPPED,
    )
    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Everything but the seeds whose content is what was loaded last; nothing if paused."""
        if pause := paused(context.instance, environment):
            return dg.SkipReason(str(pause))
        keys = job.selection.resolve([dbt.definition])
        wanted_seeds = {uid: key for uid, key in seeds.items() if key in keys}
        built = read_built(context.instance, wanted_seeds)
        unchanged = {
            key
            for uid, key in wanted_seeds.items()
            if uid in built and built[uid].fingerprint == versions[key]
        }
        wanted = sorted(keys - unchanged)
        if not wanted:
            return dg.SkipReason("Only seeds are selected, and none has changed.")
        return dg.RunRequest(
            run_key=context.scheduled_execution_time.isoformat(),
            asset_selection=wanted,
            # Named one by one: without names Dagster leaves out the checks on sources.
            asset_check_keys=[*_checks_on(dbt, wanted), *source_checks],
        )

    return request
