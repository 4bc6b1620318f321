"""Parse a dbt project, and read what was parsed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from dbt_orchestration.changes.project import Project
from dbt_orchestration.dbt.clock import clock_nodes
from dbt_orchestration.dbt.facts import (
    folders_of,
    profiles_of,
    read_facts,
    stamp_of,
    variables_named,
)
from dbt_orchestration.dbt.internals import manifests, sessions
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget, dbt_session
from dbt_orchestration.dbt.layout import Layout, PrepareError

__all__ = ["Commit", "PrepareError", "Revision", "files_digest", "parse_into", "run_dbt", "seed_of"]


@dataclass(frozen=True)
class Commit:
    """A commit, as people see it.

    Attributes:
        author: name and e-mail address.
        url: its page on the host; "" if that is not known.
        ticket: the first that its message names; "" if it names none.
        ticket_url: the ticket's page; "" if that is not known.
        body: its message without the subject; "" if the commit was not read from git just now.
    """

    sha: str
    branch: str
    author: str
    subject: str
    committed_at: str
    url: str = ""
    ticket: str = ""
    ticket_url: str = ""
    body: str = field(default="", compare=False, repr=False)

    @property
    def short(self) -> str:
        return self.sha[:10]

    @property
    def title(self) -> str:
        """Its subject, and its ticket if that does not name it."""
        named = self.ticket in self.subject
        return self.subject if named else f"{self.subject} ({self.ticket})"

    def as_json(self) -> dict[str, Any]:
        """What is kept of it: all but the body."""
        return {name: value for name, value in asdict(self).items() if name != "body"}


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

    def load_parsed(self) -> Any:
        """dbt's own manifest, a new one: dbt changes what it runs on."""
        manifest = sessions.load_manifest(self.partial_parse_path)
        manifests.set_seed_folders(manifest, self.folders)
        return manifest

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

    @property
    def closed(self) -> frozenset[str]:
        """Nodes that have the columns in ``lineage``, in that order, and no others."""
        return frozenset(self._analysis.get("closed", ()))

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


def files_digest(target: DbtTarget) -> str:
    """What the project's files, and those of its packages, are just now, and where they lie."""
    digest = hashlib.sha256(str(target.project_dir).encode())
    for path in _project_files(target):
        digest.update(f"\0{path}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:16]


def is_parsed_as_now(revision: Revision, target: DbtTarget) -> bool:
    """Whether all that decides a parse besides the files is as it was for ``revision``."""
    if not revision.facts_path.is_file():
        return False  # an older version of this package prepared it
    return revision.digest.endswith(f"-{stamp_of(target, revision.facts)}")


def seed_of(target: DbtTarget, revisions: Iterable[Revision]) -> Revision | None:
    """The first revision that was parsed with the same profile and environment as now.

    dbt itself does not see all environment variables that were read when it parses the rest, and
    not that time has passed.
    """
    for revision in revisions:
        if is_parsed_as_now(revision, target) and not revision.clock:
            return revision
    return None
