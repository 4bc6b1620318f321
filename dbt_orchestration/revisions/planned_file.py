"""What a plan says of ``orchestration.yml``, before anybody has pushed it.

The platform's rules are known where its settings are at hand: a plan is made on a laptop, or where
pull requests are checked, as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dbt_orchestration.changes.policy import dagster_meta
from dbt_orchestration.dbt.selection import Parsed
from dbt_orchestration.revisions.project_file import (
    check_commit,
    check_jobs,
    idle_routes,
    remarks,
    with_project_file,
)
from dbt_orchestration.settings.found import target_of
from dbt_orchestration.settings.models import Settings, SettingsError, config_file, load_settings
from dbt_orchestration.settings.project_file import FILE, read_project_file


def check_for_plan(project: Parsed, target: str | None, folder: Path) -> Sequence[str]:
    """Refuse what would be refused when the commit is loaded; what else is to be said.

    Args:
        target: that the project was parsed with; None for the profile's own.
        folder: of the project, in the working tree.

    Raises:
        SettingsError, ProjectError: as ``check_commit``.
    """
    file = read_project_file(project.project_dir)
    if not file.model_fields_set and not any(map(dagster_meta, project.manifest["nodes"].values())):
        return ()
    try:
        settings = _settings_of(folder)
    except SettingsError as error:
        return (*_without_settings(project), f"{FILE}: the platform's rules are not known: {error}")
    return tuple(_with(settings, project, target) if settings else _without_settings(project))


def _settings_of(folder: Path) -> Settings | None:
    """The platform's settings, if they are at hand and of this project.

    Raises:
        SettingsError: they are wrong here.
    """
    if not config_file().is_file():
        return None
    settings = load_settings()
    is_of_it = settings.git.remote or settings.project_dir.resolve() == folder.resolve()
    return settings if is_of_it else None


def _with(settings: Settings, project: Parsed, target: str | None) -> Iterator[str]:
    said: dict[str, None] = {}
    target = target or target_of(settings.profiles_dir, settings.profile)
    for name, environment in settings.environments.items():
        if _disabled(project) and environment.target != target:
            with_project_file(settings, name, project.project_dir)
            said[
                f"{FILE}: the jobs of {name} are not checked, as models are disabled here: see plan"
                f" --target {environment.target}"
            ] = None
        else:
            check_commit(settings, name, project)
        said |= dict.fromkeys(remarks(settings, name, project))
    yield from said


def _without_settings(project: Parsed) -> Iterator[str]:
    file = read_project_file(project.project_dir)
    for said in (file, *file.environments.values()):
        if not _disabled(project):
            check_jobs(said, project)
        yield from idle_routes(said, project)


def _disabled(project: Parsed) -> bool:
    """Whether a model of its own is disabled, perhaps for another target than the one at hand."""
    own = project.manifest["metadata"]["project_name"]
    disabled = (project.manifest.get("disabled") or {}).values()
    return any(node["package_name"] == own for nodes in disabled for node in nodes)
