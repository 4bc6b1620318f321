"""Prepare the dbt project as it stands in the working tree."""

from __future__ import annotations

import os

from filelock import FileLock

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.revisions.kept import read_revision, working_tree_home
from dbt_orchestration.revisions.packages import install_packages
from dbt_orchestration.revisions.prepare import ProjectFolder
from dbt_orchestration.revisions.prepare import prepare as prepare_revision
from dbt_orchestration.settings.models import Settings

__all__ = ["PrepareError", "Revision", "open_revision", "prepare"]


def open_revision(settings: Settings, environment: str, digest: str) -> Revision:
    """The revision ``digest`` that was prepared before.

    Raises:
        PrepareError: it is not there any more.
    """
    folder = working_tree_home(settings, environment) / digest
    revision = read_revision(folder)
    if revision is None:
        raise PrepareError(f"{folder} is gone: reload the code location {environment}")
    os.utime(folder)
    return revision


def prepare(settings: Settings, environment: str) -> Revision:
    """Parse the project for ``environment``, unless that was done for the same files.

    Raises:
        PrepareError: packages cannot be installed, or the project does not parse.
    """

    def install(target: DbtTarget) -> None:
        with FileLock(settings.state_dir / "packages.lock"):  # environments share the folder
            install_packages(target)

    source = ProjectFolder(DbtTarget.of(settings, environment), install)
    return prepare_revision(source, working_tree_home(settings, environment))
