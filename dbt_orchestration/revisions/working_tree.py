"""Prepare the dbt project as it stands in the working tree.

A revision is a folder named by the digest of everything that decides the parse, so that preparing
the same project twice does nothing, and a run reads the files its definitions were made from.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import yaml
from filelock import FileLock

from dbt_orchestration.invocation import DbtError, DbtInvocation
from dbt_orchestration.settings import Settings

_KEEP = 10
_ENV_VAR = re.compile(rb"""env_var\(\s*['"]([^'"]+)['"]""")
_NOT_SOURCE = {"target", "logs", "dbt_packages", ".git", "__pycache__", ".venv"}
_PACKAGES = ("packages.yml", "dependencies.yml", "package-lock.yml")


class PrepareError(RuntimeError):
    """The project cannot be prepared. The message is dbt's own, with file and line."""


@dataclass(frozen=True)
class Revision:
    """A prepared project. ``directory`` holds what dbt wrote when it parsed."""

    digest: str
    directory: Path

    @property
    def manifest_path(self) -> Path:
        return self.directory / "manifest.json"

    @property
    def partial_parse_path(self) -> Path:
        return self.directory / "partial_parse.msgpack"

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """dbt's manifest.json: https://docs.getdbt.com/reference/artifacts/manifest-json"""
        manifest: Mapping[str, Any] = orjson.loads(self.manifest_path.read_bytes())
        return manifest


def open_revision(settings: Settings, environment: str, digest: str) -> Revision:
    """The revision ``digest`` that was prepared before.

    Raises:
        PrepareError: it is not there any more.
    """
    revision = Revision(digest, _home(settings, environment) / digest)
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
    with FileLock(home / "prepare.lock"):
        revision = _revision(settings, environment)
        while not revision.manifest_path.is_file():
            _parse(settings, environment, revision)
            # A file saved while dbt parsed: what was parsed is neither the old project nor the new.
            after = _revision(settings, environment)
            if after != revision:
                shutil.rmtree(revision.directory)
                revision = after
        os.utime(revision.directory)
        _forget_old(home)
    return revision


def _home(settings: Settings, environment: str) -> Path:
    return settings.state_dir / "revisions" / environment


def _revision(settings: Settings, environment: str) -> Revision:
    digest = hashlib.sha256()
    # The name of the DuckDB file is the name of its database; the folder is in no relation's name.
    target = settings.profile, settings.environment(environment).target, settings.duckdb_path.name
    digest.update(repr((settings.project_dir, target, version("dbt-core"))).encode())
    variables: set[str] = set()
    for path in (settings.profiles_dir / "profiles.yml", *_source_files(settings.project_dir)):
        content = path.read_bytes()
        digest.update(f"\0{path}\0".encode())
        digest.update(content)
        variables.update(name.decode() for name in _ENV_VAR.findall(content))
    for name in sorted(variables - settings.dbt_environment.keys()):
        if not name.startswith("DBT_ENV_SECRET_"):
            digest.update(f"\0{name}={os.environ.get(name)}".encode())
    name = digest.hexdigest()[:16]
    return Revision(name, _home(settings, environment) / name)


def _source_files(project: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(project):
        folders[:] = sorted(set(folders) - _NOT_SOURCE)
        yield from (Path(folder) / file for file in sorted(files) if not _is_data(file))


def _is_data(file: str) -> bool:
    return file.endswith((".duckdb", ".duckdb.wal", ".log")) or file == ".user.yml"


def _install_packages(settings: Settings, environment: str) -> None:
    project = settings.project_dir
    stated = [project / name for name in _PACKAGES if (project / name).is_file()]
    if not stated or not any(yaml.safe_load(path.read_text()) for path in stated):
        return
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in stated)).hexdigest()
    marker = project / "dbt_packages" / ".installed"
    if marker.is_file() and marker.read_text() == digest:
        return
    _dbt(settings, environment, ["deps"])
    stated = [project / name for name in _PACKAGES if (project / name).is_file()]
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(hashlib.sha256(b"".join(p.read_bytes() for p in stated)).hexdigest())


def _parse(settings: Settings, environment: str, revision: Revision) -> None:
    # dbt parses into a folder of its own, renamed when it is whole: a crash leaves nothing behind.
    home = revision.directory.parent
    folder = Path(tempfile.mkdtemp(dir=home, prefix="."))
    try:
        previous = _newest(home)
        if previous:
            shutil.copy(previous / "partial_parse.msgpack", folder)
        _dbt(settings, environment, ["parse", "--target-path", str(folder)])
        folder.rename(revision.directory)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _dbt(settings: Settings, environment: str, command: list[str]) -> None:
    try:
        DbtInvocation(settings, environment, [*command, "--quiet"]).finish()
    except DbtError as error:
        raise PrepareError(f"dbt {command[0]}, {settings.project_dir}: {error}") from None


def _newest(home: Path) -> Path | None:
    revisions = [path.parent for path in home.glob("*/partial_parse.msgpack")]
    return max(revisions, key=lambda path: path.stat().st_mtime, default=None)


def _forget_old(home: Path) -> None:
    revisions = sorted(
        (path.parent for path in home.glob("*/manifest.json")), key=lambda p: -p.stat().st_mtime
    )
    for old in revisions[_KEEP:]:
        shutil.rmtree(old)
