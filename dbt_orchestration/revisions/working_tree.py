"""Prepare the dbt project as it stands in the working tree."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision, parse
from dbt_orchestration.revisions.analyse import analyse
from dbt_orchestration.revisions.packages import install_packages
from dbt_orchestration.settings.models import Settings

__all__ = ["PrepareError", "Revision", "open_revision", "prepare"]


def open_revision(settings: Settings, environment: str, digest: str) -> Revision:
    """The revision ``digest`` that was prepared before.

    Raises:
        PrepareError: it is not there any more.
    """
    folder = _home(settings, environment) / digest
    revision = Revision(digest, folder, settings.project_dir)
    if not revision.manifest_path.is_file():
        raise PrepareError(f"{revision.directory} is gone: reload the code location {environment}")
    return revision


def prepare(settings: Settings, environment: str) -> Revision:
    """Parse the project for ``environment``, unless that was done for the same files.

    Raises:
        PrepareError: packages cannot be installed, or the project does not parse.
    """
    home = _home(settings, environment)
    home.mkdir(parents=True, exist_ok=True)
    target = DbtTarget.of(settings, environment)
    with FileLock(settings.state_dir / "packages.lock"):
        install_packages(target)
    revision = parse(target, home)
    if not revision.analysis_path.is_file():
        analyse(revision, target, home)
    return revision


def _home(settings: Settings, environment: str) -> Path:
    return settings.state_dir / "working_tree" / environment
