"""Prepare the dbt project as it stands in the working tree."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml
from filelock import FileLock

from dbt_orchestration.invocation import DbtTarget
from dbt_orchestration.revisions.analyse import analyse
from dbt_orchestration.revisions.parse import PrepareError, Revision, parse, run_dbt
from dbt_orchestration.settings import Settings

__all__ = ["PrepareError", "Revision", "open_revision", "prepare"]

_PACKAGES = ("packages.yml", "dependencies.yml", "package-lock.yml")


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
    with FileLock(settings.state_dir / "packages.lock"):
        _install_packages(settings, environment)
    target = DbtTarget.of(settings, environment)
    revision = parse(target, home)
    if not revision.analysis_path.is_file():
        analyse(revision, target, home)
    return revision


def _home(settings: Settings, environment: str) -> Path:
    return settings.state_dir / "working_tree" / environment


def _install_packages(settings: Settings, environment: str) -> None:
    project = settings.project_dir
    stated = [project / name for name in _PACKAGES if (project / name).is_file()]
    if not stated or not any(yaml.safe_load(path.read_text()) for path in stated):
        return
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in stated)).hexdigest()
    marker = project / "dbt_packages" / ".installed"
    if marker.is_file() and marker.read_text() == digest:
        return
    run_dbt(DbtTarget.of(settings, environment), ["deps"])
    stated = [project / name for name in _PACKAGES if (project / name).is_file()]
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(hashlib.sha256(b"".join(p.read_bytes() for p in stated)).hexdigest())
