"""Parse a dbt project in a folder, once for the same files.

A revision is a folder named by the digest of everything that decides the parse, so that preparing
the same project twice does nothing, and a run reads the files its definitions were made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from dbt_orchestration.changes.project import Project
from dbt_orchestration.dbt.clock import clock_nodes
from dbt_orchestration.dbt.facts import (
    folders_of,
    profiles_of,
    read_facts,
    stamp_of,
    variables_named,
    versions,
)
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget, dbt_session
from dbt_orchestration.dbt.layout import Layout, PrepareError
from dbt_orchestration.dbt.scratch import PREPARING, scratch_in

__all__ = ["PrepareError", "Revision", "parse", "parse_into", "run_dbt", "stamp_of", "versions"]

_KEEP = 10
_TRIES = 5


@dataclass(frozen=True)
class Commit:
    """A commit, as people see it.

    Attributes:
        author: name and e-mail address.
        url: its page on the host; "" if that is not known.
    """

    sha: str
    branch: str
    author: str
    subject: str
    committed_at: str
    url: str = ""

    @property
    def short(self) -> str:
        return self.sha[:10]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Revision:
    """A prepared project.

    Attributes:
        directory: holds what dbt wrote when it parsed.
        project_dir: the project's files.
        commit: which commit it is; None if it is the project as it lay in its folder.
        parsed: dbt's own manifest, if it was parsed just now, until somebody takes it.
    """

    digest: str
    directory: Path
    project_dir: Path
    commit: Commit | None = None
    parsed: list[Any] = field(default_factory=list, compare=False, repr=False)

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
    def facts_path(self) -> Path:
        return self.directory / "project.json"

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What else dbt knew of the project when it parsed: see ``_facts``."""
        facts: Mapping[str, Any] = orjson.loads(self.facts_path.read_bytes())
        return facts

    @property
    def folders(self) -> Mapping[str, Path]:
        """Where the project and its installed packages lie, by name."""
        return folders_of(self.project_dir, self.facts)

    @property
    def clock(self) -> frozenset[str]:
        """Nodes whose config is made from the clock: it is as it was when dbt parsed."""
        return frozenset(self.facts["clock"])

    def take_parsed(self) -> Any:
        """dbt's own manifest, to compile with: that changes it. None if it has to be loaded."""
        return self.parsed.pop() if self.parsed else None

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """What decides each node's built result, by unique id."""
        fingerprints: Mapping[str, str] = self._analysis["fingerprints"]
        return fingerprints

    @property
    def columns(self) -> Mapping[str, str]:
        """What decides each node's columns, but not which rows it has, by unique id."""
        columns: Mapping[str, str] = self._analysis.get("columns", self.fingerprints)
        return columns

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

    def why_unmergeable(self, unique_id: str) -> str:
        """Why the batches of a model cannot be run several at once; "" if they can."""
        why: Mapping[str, str] = self._analysis.get("unmergeable", {})
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
        PrepareError: the project does not parse, or does not keep still.
    """
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "prepare.lock"):
        for _ in range(_TRIES):
            files = _files_digest(target)
            revision = _known(target, home, files) or _parse(target, home, files)
            # A file saved while dbt parsed: what was parsed is neither the old project nor the new.
            if not revision.parsed or _files_digest(target) == files:
                break
            shutil.rmtree(revision.directory)
        else:
            raise PrepareError(
                f"{target.project_dir}: files changed each time while dbt parsed them, {_TRIES}"
                " times in a row. Find what writes them, and reload the code location"
            )
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


def parse_into(target: DbtTarget, folder: Path, seed: Revision | None) -> Revision:
    """Parse the project of ``target``, and write what dbt knows of it into ``folder``.

    Args:
        seed: a revision of it; what is the same there is not parsed again.

    Raises:
        PrepareError: the project does not parse.
    """
    revision = Revision("", folder, target.project_dir)
    if seed and seed.partial_parse_path.is_file():
        shutil.copy(seed.partial_parse_path, folder)
    named = variables_named(_project_files(target))
    try:
        with dbt_session(target, ["parse", "--target-path", str(folder)]) as session:
            session.write_manifest(revision.manifest_path)
            facts = read_facts(session, target, named)
    except DbtError as error:
        raise PrepareError(f"dbt parse, {target.project_dir}: {error}") from None
    project = Project(revision.manifest, settings=facts["settings"])
    facts["clock"] = clock_nodes(project, folders_of(target.project_dir, facts))
    revision.facts_path.write_bytes(orjson.dumps(facts))
    return replace(revision, parsed=[session.manifest])


def _project_files(target: DbtTarget) -> Iterator[Path]:
    """All but the profile: its credentials decide nothing, and the rest is in the stamp."""
    return (path for path in Layout.of(target).source_files() if path != profiles_of(target))


def _files_digest(target: DbtTarget) -> str:
    digest = hashlib.sha256(str(target.project_dir).encode())
    for path in _project_files(target):
        digest.update(f"\0{path}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:16]


def _known(target: DbtTarget, home: Path, files: str) -> Revision | None:
    for folder in home.glob(f"{files}-*"):
        revision = Revision(folder.name, folder, target.project_dir)
        if revision.facts_path.is_file() and folder.name == _name(target, files, revision):
            return revision
    return None


def _name(target: DbtTarget, files: str, revision: Revision) -> str:
    return f"{files}-{stamp_of(target, revision.facts)}"


def _parse(target: DbtTarget, home: Path, files: str) -> Revision:
    # dbt parses into a folder of its own, renamed when it is whole: a crash leaves nothing behind.
    with scratch_in(home, PREPARING) as scratch:
        parsed = parse_into(target, scratch, seed_of(target, _revisions(home)))
        name = _name(target, files, parsed)
        shutil.rmtree(home / name, ignore_errors=True)
        scratch.rename(home / name)
    return replace(parsed, digest=name, directory=home / name)


def seed_of(target: DbtTarget, revisions: Iterable[Revision]) -> Revision | None:
    """The first revision that was parsed with the same profile and environment as now.

    dbt itself does not see all environment variables that were read when it parses the rest, and
    not that time has passed.
    """
    for revision in revisions:
        if revision.facts_path.is_file() and not revision.clock:
            stamp = revision.digest.rpartition("-")[2]
            if stamp == stamp_of(target, revision.facts):
                return revision
    return None


def _revisions(home: Path) -> list[Revision]:
    """The newest first."""
    folders = [path.parent for path in home.glob("*/manifest.json")]
    folders.sort(key=lambda path: -path.stat().st_mtime)
    return [Revision(folder.name, folder, folder) for folder in folders]


def _forget_old(home: Path) -> None:
    for old in _revisions(home)[_KEEP:]:
        shutil.rmtree(old.directory)
