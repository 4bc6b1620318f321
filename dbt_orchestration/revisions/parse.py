"""Parse a dbt project in a folder, once for the same files.

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
from filelock import FileLock

from dbt_orchestration.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.revisions.remote import Commit

_KEEP = 10
_ENV_VAR = re.compile(rb"""env_var\(\s*['"]([^'"]+)['"]""")
_NOT_SOURCE = {"target", "logs", "dbt_packages", ".git", "__pycache__", ".venv"}


class PrepareError(RuntimeError):
    """The project cannot be prepared. The message is dbt's own, with file and line."""


@dataclass(frozen=True)
class Revision:
    """A prepared project.

    Attributes:
        directory: holds what dbt wrote when it parsed.
        project_dir: the project's files.
        commit: which commit it is; None if it is the project as it lay in its folder.
    """

    digest: str
    directory: Path
    project_dir: Path
    commit: Commit | None = None

    @property
    def manifest_path(self) -> Path:
        return self.directory / "manifest.json"

    @property
    def partial_parse_path(self) -> Path:
        return self.directory / "partial_parse.msgpack"

    @property
    def analysis_path(self) -> Path:
        return self.directory / "analysis.json"

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """What decides each node's built result, by unique id."""
        fingerprints: Mapping[str, str] = self._analysis["fingerprints"]
        return fingerprints

    @property
    def checks(self) -> Mapping[str, str]:
        """What decides each test, by unique id."""
        checks: Mapping[str, str] = self._analysis["checks"]
        return checks

    @property
    def lineage(self) -> Mapping[str, Mapping[str, list[list[str]]]]:
        """For each node, column to the columns it is made of, as [unique id, column] pairs."""
        lineage: Mapping[str, Mapping[str, list[list[str]]]] = self._analysis["lineage"]
        return lineage

    def one_by_one(self, unique_id: str) -> str:
        """Why the batches of a model cannot be run several at once; "" if they can."""
        why: Mapping[str, str] = self._analysis.get("one_by_one", {})
        return why.get(unique_id, "nobody has looked whether it gives the same rows")

    @cached_property
    def _analysis(self) -> Mapping[str, Any]:
        analysis: Mapping[str, Any] = orjson.loads(self.analysis_path.read_bytes())
        return analysis

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """dbt's manifest.json: https://docs.getdbt.com/reference/artifacts/manifest-json"""
        manifest: Mapping[str, Any] = orjson.loads(self.manifest_path.read_bytes())
        return manifest


def parse(target: DbtTarget, home: Path) -> Revision:
    """The project of ``target``, parsed into a folder under ``home``, unless it is there.

    Raises:
        PrepareError: the project does not parse.
    """
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "prepare.lock"):
        revision = _revision(target, home)
        while not revision.manifest_path.is_file():
            _parse(target, revision)
            # A file saved while dbt parsed: what was parsed is neither the old project nor the new.
            after = _revision(target, home)
            if after != revision:
                shutil.rmtree(revision.directory)
                revision = after
        os.utime(revision.directory)
        _forget_old(home)
    return revision


def run_dbt(target: DbtTarget, command: list[str]) -> None:
    """Raises:
    PrepareError: the command failed; the message is dbt's own.
    """
    try:
        DbtInvocation(target, [*command, "--log-level=none"]).finish()
    except DbtError as error:
        raise PrepareError(f"dbt {command[0]}, {target.project_dir}: {error}") from None


def _revision(target: DbtTarget, home: Path) -> Revision:
    digest = hashlib.sha256()
    # The name of the DuckDB file is the name of its database; the folder is in no relation's name.
    duckdb = Path(target.variables.get("DBT_DUCKDB_PATH", "")).name
    named = target.profile, target.target, duckdb
    digest.update(repr((target.project_dir, named, version("dbt-core"))).encode())
    for path in (_profiles(target), *_source_files(target.project_dir)):
        digest.update(f"\0{path}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    for name in variables_read(target):
        digest.update(f"\0{name}={os.environ.get(name)}".encode())
    name = digest.hexdigest()[:16]
    return Revision(name, home / name, target.project_dir)


def variables_read(target: DbtTarget) -> list[str]:
    """Names of the environment variables that the project and its profile read, but for secrets."""
    names: set[str] = set()
    for path in (_profiles(target), *_source_files(target.project_dir)):
        content = path.read_bytes() if path.is_file() else b""
        names.update(name.decode() for name in _ENV_VAR.findall(content))
    return sorted(
        name for name in names - target.variables.keys() if not name.startswith("DBT_ENV_SECRET_")
    )


def _profiles(target: DbtTarget) -> Path:
    return (target.profiles_dir or target.project_dir) / "profiles.yml"


def _source_files(project: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(project):
        folders[:] = sorted(set(folders) - _NOT_SOURCE)
        yield from (Path(folder) / file for file in sorted(files) if not _is_data(file))


def _is_data(file: str) -> bool:
    return file.endswith((".duckdb", ".duckdb.wal", ".log")) or file == ".user.yml"


def _parse(target: DbtTarget, revision: Revision) -> None:
    # dbt parses into a folder of its own, renamed when it is whole: a crash leaves nothing behind.
    home = revision.directory.parent
    folder = Path(tempfile.mkdtemp(dir=home, prefix="."))
    try:
        previous = _newest(home)
        if previous:
            shutil.copy(previous / "partial_parse.msgpack", folder)
        run_dbt(target, ["parse", "--target-path", str(folder)])
        folder.rename(revision.directory)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _newest(home: Path) -> Path | None:
    revisions = [path.parent for path in home.glob("*/partial_parse.msgpack")]
    return max(revisions, key=lambda path: path.stat().st_mtime, default=None)


def _forget_old(home: Path) -> None:
    revisions = sorted(
        (path.parent for path in home.glob("*/manifest.json")), key=lambda p: -p.stat().st_mtime
    )
    for old in revisions[_KEEP:]:
        shutil.rmtree(old)
