"""An environment as a commit's ``orchestration.yml`` wants it, as far as the platform lets it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from dbt_orchestration.dbt.groups import groups_and_owners
from dbt_orchestration.dbt.selection import (
    Parsed,
    nodes_of_environment,
    refuse_idle_parts,
    select_nodes,
)
from dbt_orchestration.settings.allowed import ProjectFileRules, Topic
from dbt_orchestration.settings.models import Environment, Job, Schedule, Settings, SettingsError
from dbt_orchestration.settings.notify import Notify, Route
from dbt_orchestration.settings.project_file import (
    FILE,
    ProjectFile,
    ProjectFileError,
    Said,
    read_project_file,
)
from dbt_orchestration.settings.project_meta import refuse_on_change
from dbt_orchestration.settings.user_input import did_you_mean

_TOPICS: tuple[Topic, ...] = ("full_build", "on_change", "jobs", "routes")
# Enough to see how close together the starts of a schedule come.
_STARTS = 50


def with_project_file(settings: Settings, name: str, project_dir: Path) -> Settings:
    """The settings, with what a commit says of the environment ``name``.

    Args:
        settings: the platform's; or these with what another commit says, which does not count.

    Raises:
        ProjectFileError: the file is wrong, or says what it may not.
    """
    platform = settings.platform
    file = read_project_file(project_dir)
    if not file.model_fields_set:
        return platform
    said = _merged(file, file.environments.get(name))
    environment = platform.environment(name)
    if platform.is_whole and (unknown := _unknown(file, platform, name)):
        known = {*platform.environments, *environment.project_file.other_environments}
        raise ProjectFileError(
            f"{FILE}: environments.{unknown[0]}: there is no such environment"
            f"{did_you_mean(unknown[0], known)}"
        )
    _refuse(said, environment)
    changes: dict[str, object] = {"jobs": {**environment.jobs, **said.jobs}}
    if build := said.full_build:
        stated = build.model_dump(include=build.model_fields_set)
        changes["full_build"] = environment.full_build.model_copy(update=stated)
    changes |= {"on_change": said.on_change} if said.on_change else {}
    if said.routes:
        changes["notify"] = _told(platform, name, said)
    changed = environment.model_copy(update=changes)
    return platform.with_environment(name, changed)


def check_commit(settings: Settings, name: str, project: Parsed) -> None:
    """Refuse what keeps an environment from being loaded, of what a commit says of it.

    Args:
        settings: as of ``with_project_file``.

    Raises:
        SettingsError: as ``with_project_file`` and ``nodes_of_job``.
        ProjectError: a model says what the settings do not allow.
    """
    said = with_project_file(settings, name, project.project_dir)
    environment = said.environment(name)
    refuse_on_change(project.manifest, environment.project_file.on_change)
    for job in environment.jobs:
        nodes_of_job(said, name, job, project)


def nodes_of_job(settings: Settings, name: str, job: str, project: Parsed) -> Collection[str]:
    """The unique ids of what a job of the environment ``name`` builds.

    Args:
        settings: with what the commit says.

    Raises:
        ProjectFileError: the selection is wrong, or a part of it matches nothing.
        SettingsError: likewise, and it is the platform's.
    """
    environment = settings.environment(name)
    of_platform = job in settings.platform.environment(name).jobs
    where = f"environments.{name}." if of_platform else f"{FILE}: "
    try:
        found = _nodes_of(where, job, environment.jobs[job], project)
        if not (here := found & {*nodes_of_environment(name, project, environment)}):
            said = environment.jobs[job].select
            raise SettingsError(f"{where}jobs.{job}.select: {name} builds nothing of {said!r}")
    except SettingsError as error:
        raise (SettingsError if of_platform else ProjectFileError)(str(error)) from None
    return here


def check_jobs(said: Said, project: Parsed) -> None:
    """Refuse jobs of a file whose selections are wrong, whatever the environments are.

    Raises:
        SettingsError: a selection is wrong, or a part of it matches nothing.
    """
    for name, job in said.jobs.items():
        _nodes_of(f"{FILE}: ", name, job, project)


def _nodes_of(where: str, name: str, job: Job, project: Parsed) -> set[str]:
    where = f"{where}jobs.{name}"
    refuse_idle_parts(f"{where}.", project, job)
    return {*select_nodes(where, project, job)}


def remarks(settings: Settings, name: str, project: Parsed) -> Iterator[str]:
    """What the file says of the environment ``name`` that does nothing there, a line each.

    Args:
        settings: as of ``with_project_file``.

    Raises:
        ProjectFileError: as ``with_project_file``.
    """
    platform = settings.platform
    file = read_project_file(project.project_dir)
    for unknown in _unknown(file, platform, name):
        known = ", ".join(platform.environments)
        yield f"{FILE}: environments.{unknown}: it says nothing here, where there is only {known}"
    yield from idle_routes(_merged(file, file.environments.get(name)), project, name)


def idle_routes(said: Said, project: Parsed, name: str = "") -> Iterator[str]:
    """Of routes, the groups and owners that no node has, a line each.

    Args:
        name: the environment's, which may stand before a group as Dagster shows it.
    """
    if not said.routes:
        return
    groups, owners = groups_and_owners(project.manifest)
    known = {owner.removeprefix("team:").lower() for owner in owners}
    for key, route in said.routes.items():
        for group in route.groups:
            if group not in groups and group.removeprefix(f"{name}_") not in groups:
                near = did_you_mean(group, sorted(groups))
                yield f"{FILE}: routes.{key}.groups: no model is in the group {group!r}{near}"
        for owner in route.owners:
            if owner.removeprefix("team:").lower() not in known:
                near = did_you_mean(owner, sorted(owners)) if owners else ""
                yield f"{FILE}: routes.{key}.owners: no model has the owner {owner!r}{near}"


def _unknown(file: ProjectFile, platform: Settings, name: str) -> Sequence[str]:
    others = platform.environment(name).project_file.other_environments
    return sorted(file.environments.keys() - platform.environments.keys() - {*others})


def _merged(everywhere: Said, here: Said | None) -> Said:
    if here is None:
        return everywhere
    return Said(
        full_build=_both(everywhere.full_build, here.full_build),
        on_change=here.on_change or everywhere.on_change,
        jobs={**everywhere.jobs, **here.jobs},
        routes={**everywhere.routes, **here.routes},
    )


def _both(everywhere: Schedule | None, here: Schedule | None) -> Schedule | None:
    """What is said of a schedule, here and everywhere; no more than that counts as said."""
    stated = {
        k: v for s in (everywhere, here) if s for k, v in s.model_dump(exclude_unset=True).items()
    }
    return Schedule(**stated) if stated else None


def _refuse(said: Said, environment: Environment) -> None:
    rules = environment.project_file
    if no := [topic for topic in _TOPICS if getattr(said, topic) and topic not in rules.allow]:
        raise ProjectFileError(
            f"{FILE}: {', '.join(no)}: the settings of the platform do not let a commit say that:"
            " remove it, or ask whoever keeps Dagster running"
        )
    if said.on_change and said.on_change not in rules.on_change:
        may = ", ".join(rules.on_change)
        raise ProjectFileError(
            f"{FILE}: on_change: {said.on_change} is not allowed here: say {may}"
        )
    if len(said.jobs) > rules.most_jobs:
        raise ProjectFileError(
            f"{FILE}: jobs: {len(said.jobs)} are more than the {rules.most_jobs} that are allowed"
        )
    if both := sorted(said.jobs.keys() & environment.jobs.keys()):
        raise ProjectFileError(
            f"{FILE}: jobs.{both[0]}: the settings have a job of that name: choose another name"
        )
    if said.full_build and not said.full_build.enabled and not rules.may_disable_full_build:
        raise ProjectFileError(
            f"{FILE}: full_build.enabled: the daily build may not be switched off here: remove it"
        )
    _refuse_often(said, rules)
    for name, route in said.routes.items():
        for address in route.email if rules.email_domains else ():
            if address.rpartition("@")[2].lower() not in map(str.lower, rules.email_domains):
                may = ", ".join(rules.email_domains)
                raise ProjectFileError(
                    f"{FILE}: routes.{name}.email: {address} is not at {may}: name another address"
                )
        channels = {_plain(channel) for channel in rules.slack_channels}
        if channels and route.slack and _plain(route.slack) not in channels:
            may = ", ".join(rules.slack_channels)
            raise ProjectFileError(
                f"{FILE}: routes.{name}.slack: {route.slack} is not allowed here: say {may}"
            )


def _plain(channel: str) -> str:
    return channel.removeprefix("#").lower()


def _refuse_often(said: Said, rules: ProjectFileRules) -> None:
    schedules = {f"jobs.{name}.schedule": job.schedule for name, job in said.jobs.items()}
    schedules["full_build"] = said.full_build
    least = timedelta(minutes=rules.least_minutes)
    for key, schedule in schedules.items():
        if schedule and (apart := _least_apart(schedule)) < least:
            minutes = apart.total_seconds() / 60
            raise ProjectFileError(
                f"{FILE}: {key}.cron: {schedule.cron!r} starts twice within {minutes:.0f}"
                f" minute{'s' if minutes > 1 else ''}; {rules.least_minutes} minutes have to be in"
                " between"
            )


def _least_apart(schedule: Schedule) -> timedelta:
    try:
        from dbt_orchestration import dagster_internals
    except ImportError:
        return timedelta.max  # for a plan alone, which runs nothing
    starts = dagster_internals.next_cron_ticks(
        schedule.cron, schedule.timezone, datetime.now(UTC), _STARTS
    )
    return min((late - early for early, late in pairwise(starts)), default=timedelta.max)


def _told(platform: Settings, name: str, said: Said) -> Notify:
    """The environment's own part of ``notify``, with the routes of the file."""
    if platform.notify_of(name) is None:
        raise ProjectFileError(
            f"{FILE}: routes: nobody is told anything here, as the settings of the platform have no"
            " notify: remove them, or ask whoever keeps Dagster running"
        )
    routes = {key: Route(**route.model_dump()) for key, route in said.routes.items()}
    own = platform.environment(name).notify or Notify()
    added = own.overridden_by(Notify(routes=routes))
    everywhere = platform.notify
    told = everywhere.overridden_by(added) if everywhere else added
    if problem := told.problem():
        raise ProjectFileError(f"{FILE}: {problem}")
    return added
