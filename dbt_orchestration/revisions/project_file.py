"""An environment as a commit's ``orchestration.yml`` wants it, as far as the platform lets it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from dbt_orchestration import dagster_internals
from dbt_orchestration.settings.allowed import ProjectFileRules, Topic
from dbt_orchestration.settings.models import Environment, Schedule, Settings, SettingsError
from dbt_orchestration.settings.notify import Notify, Route
from dbt_orchestration.settings.project_file import FILE, Said, read_project_file

_TOPICS: tuple[Topic, ...] = ("full_build", "on_change", "jobs", "routes")
# Enough to see how close together the starts of a schedule come.
_STARTS = 50


def with_project_file(settings: Settings, name: str, project_dir: Path) -> Settings:
    """The settings, with what a commit says of the environment ``name``.

    Args:
        settings: the platform's; or these with what another commit says, which does not count.

    Raises:
        SettingsError: the file is wrong, or says what it may not.
    """
    platform = settings.platform
    file = read_project_file(project_dir)
    if not file.model_fields_set:
        return platform
    said = _merged(file, file.environments.get(name))
    environment = platform.environment(name)
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
        raise SettingsError(
            f"{FILE}: {', '.join(no)}: the settings of the platform do not let a commit say that:"
            " remove it, or ask whoever keeps Dagster running"
        )
    if said.on_change and said.on_change not in rules.on_change:
        may = ", ".join(rules.on_change)
        raise SettingsError(f"{FILE}: on_change: {said.on_change} is not allowed here: say {may}")
    if len(said.jobs) > rules.most_jobs:
        raise SettingsError(
            f"{FILE}: jobs: {len(said.jobs)} are more than the {rules.most_jobs} that are allowed"
        )
    if both := sorted(said.jobs.keys() & environment.jobs.keys()):
        raise SettingsError(
            f"{FILE}: jobs.{both[0]}: the settings have a job of that name: choose another name"
        )
    _refuse_often(said, rules)
    for name, route in said.routes.items():
        for address in route.email if rules.email_domains else ():
            if address.rpartition("@")[2].lower() not in map(str.lower, rules.email_domains):
                may = ", ".join(rules.email_domains)
                raise SettingsError(
                    f"{FILE}: routes.{name}.email: {address} is not at {may}: name another address"
                )


def _refuse_often(said: Said, rules: ProjectFileRules) -> None:
    schedules = {f"jobs.{name}.schedule": job.schedule for name, job in said.jobs.items()}
    schedules["full_build"] = said.full_build
    least = timedelta(minutes=rules.least_minutes)
    for key, schedule in schedules.items():
        if schedule and (apart := _least_apart(schedule)) < least:
            minutes = apart.total_seconds() / 60
            raise SettingsError(
                f"{FILE}: {key}.cron: {schedule.cron!r} starts twice within {minutes:.0f}"
                f" minute{'s' if minutes > 1 else ''}; {rules.least_minutes} minutes have to be in"
                " between"
            )


def _least_apart(schedule: Schedule) -> timedelta:
    starts = dagster_internals.next_cron_ticks(
        schedule.cron, schedule.timezone, datetime.now(UTC), _STARTS
    )
    return min((late - early for early, late in pairwise(starts)), default=timedelta.max)


def _told(platform: Settings, name: str, said: Said) -> Notify:
    """The environment's own part of ``notify``, with the routes of the file."""
    if platform.notify_of(name) is None:
        raise SettingsError(
            f"{FILE}: routes: nobody is told anything here, as the settings of the platform have no"
            " notify: remove them, or ask whoever keeps Dagster running"
        )
    routes = {key: Route(**route.model_dump()) for key, route in said.routes.items()}
    own = platform.environment(name).notify or Notify()
    added = own.overridden_by(Notify(routes=routes))
    everywhere = platform.notify
    told = everywhere.overridden_by(added) if everywhere else added
    if problem := told.problem():
        raise SettingsError(f"{FILE}: {problem}")
    return added
