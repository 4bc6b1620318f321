"""The plan between two revisions of a dbt project in a git repository, without Dagster."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from platformdirs import user_cache_path

from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.plan import Plan, diff
from dbt_orchestration.changes.policy import dagster_meta
from dbt_orchestration.changes.project import Project
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.dbt.scratch import forget_folders
from dbt_orchestration.dbt.selection import Parsed
from dbt_orchestration.revisions.analyse import Analyst
from dbt_orchestration.revisions.git import Repository
from dbt_orchestration.revisions.packages import provide_packages
from dbt_orchestration.revisions.planned_file import check_for_plan
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare

WORKING_TREE = "working tree"
_NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        project_dir: the folder of ``dbt_project.yml`` in the working tree.
        base: a revision in git's words; None is where the branch left its upstream.
        head: likewise; None is the working tree.
        select: dbt's selection syntax, on ``head``.
        cache: folder for checkouts, parsed manifests, compiled and analysed SQL.
    """

    project_dir: Path
    base: str | None = None
    head: str | None = None
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    select: str | None = None
    cache: Path = field(default_factory=partial(user_cache_path, "dbt-orchestration"))


def compare(comparison: Comparison, say: Callable[[str], None]) -> Plan:
    """The plan from ``base`` to ``head``. ``say`` is told what is going on.

    Raises:
        PrepareError: a revision cannot be read; the message names it, and is dbt's own.
        GitError: a revision does not exist.
    """
    return _Comparing(comparison, say).plan()


class _Comparing:
    def __init__(self, comparison: Comparison, say: Callable[[str], None]) -> None:
        self._wanted = comparison
        self._say = say
        self._project_dir = comparison.project_dir.resolve()
        if not (self._project_dir / "dbt_project.yml").is_file():
            raise PrepareError(f"there is no dbt_project.yml in {self._project_dir}")
        self._repository = Repository.around(self._project_dir)
        place = hashlib.sha256(str(self._project_dir).encode()).hexdigest()[:16]
        self._home = comparison.cache / place
        self._name = WORKING_TREE
        self._clock: frozenset[str] = frozenset()  # of what was parsed last: the head
        self._analyst = Analyst(self._home, lambda doing: say(f"{self._name}: {doing}"))

    def plan(self) -> Plan:
        wanted, repository = self._wanted, self._repository
        head = repository.commit(wanted.head) if wanted.head else None
        if wanted.base:
            base = repository.commit(wanted.base)
        else:
            base = repository.merge_base(head or "HEAD")
        old = self._fingerprints(base)
        new = self._fingerprints(head)
        _refuse_wrong_meta(self._name, new.project.manifest)
        project = Parsed(new.project.manifest, self._target(head).project_dir)
        try:
            remarks = check_for_plan(project, self._wanted.target, self._project_dir)
        except ValueError as error:
            raise PrepareError(f"{self._name}: {error}") from None
        self._analyst.keep()
        made = diff(old, new, partial(_alone, (old.project, new.project)))
        notes = (*_notes(old, new), *self._clock_notes(new), *remarks)
        result = replace(made, base=base, head=head, notes=notes)
        if wanted.select:
            result = result.only(self._selected(head, wanted.select))
        return result

    def _fingerprints(self, commit: str | None) -> Fingerprints:
        self._name = name = WORKING_TREE if commit is None else commit[:10]
        self._say(f"{name}: reading")
        target = self._target(commit)
        try:
            if commit is not None:
                provide_packages(target, self._project_dir, self._repository.root)
            self._say(f"{name}: parsing")
            revision = prepare(ProjectFolder(target), self._home / "revisions", analysed=False)
            forget_folders(self._home / "revisions")
            self._clock = revision.clock
            return self._analyst.fingerprints(revision, target)
        except PrepareError as error:
            said = str(error).replace(f"{target.project_dir}{os.sep}", "")
            said = said.replace(f", {target.project_dir}: ", ": ")
            raise PrepareError(f"{name}: {said}") from None

    def _clock_notes(self, head: Fingerprints) -> tuple[str, ...]:
        if not self._clock:
            return ()
        named = ", ".join(sorted(head.project.nodes[u]["name"] for u in self._clock)[:_NAMED])
        what = f"{len(self._clock)} nodes have a config that is made from the clock ({named})"
        return (f"{what}: it is evaluated when a commit is prepared and once a day, not at a run",)

    def _target(self, commit: str | None) -> DbtTarget:
        project_dir = self._project_dir
        if commit is not None:
            files = self._repository.checkout(commit, self._home / "checkouts")
            project_dir = files / self._project_dir.relative_to(self._repository.root)
            if not (project_dir / "dbt_project.yml").is_file():
                inside = self._project_dir.relative_to(self._repository.root)
                raise PrepareError(f"{commit[:10]}: there is no dbt_project.yml in {inside}")
        return DbtTarget(
            project_dir,
            self._home / "logs",
            self._profiles_dir(project_dir),
            self._wanted.profile,
            self._wanted.target,
        )

    def _profiles_dir(self, project_dir: Path) -> Path:
        chosen = self._wanted.profiles_dir or os.environ.get("DBT_PROFILES_DIR")
        places = [Path(chosen)] if chosen else [project_dir, self._project_dir]
        return next((p for p in places if (p / "profiles.yml").is_file()), Path.home() / ".dbt")

    def _selected(self, commit: str | None, select: str) -> frozenset[str]:
        target = self._target(commit)
        command = ["ls", "--select", *select.split(), "--output", "json"]
        command += ["--output-keys", "unique_id", "--log-level=none"]
        command += ["--target-path", str(self._home / "target")]
        try:
            lines = DbtInvocation(target, command).finish()
        except DbtError as error:
            raise PrepareError(f"--select {select}: {error}") from None
        return frozenset(str(orjson.loads(line)["unique_id"]) for line in lines)


def _refuse_wrong_meta(name: str, manifest: Mapping[str, Any]) -> None:
    """Say now what would keep the commit from being loaded."""
    if not any(map(dagster_meta, (*manifest["nodes"].values(), *manifest["sources"].values()))):
        return
    # Dagster comes with it, which takes a second.
    from dbt_orchestration.history.partitions import check_nodes
    from dbt_orchestration.settings.project_meta import ProjectError

    try:
        check_nodes(manifest, datetime.now(UTC))
    except ProjectError as error:
        raise PrepareError(f"{name}: {error}") from None


def _alone(projects: Collection[Project], unique_id: str) -> str:
    # Dagster comes with it, which takes a second: most plans are of no microbatch model.
    from dbt_orchestration.changes.merging.models import why_alone, why_unmergeable

    for project in projects:
        node = project.nodes.get(unique_id)
        microbatch = node and node["config"].get("incremental_strategy") == "microbatch"
        if node and microbatch and (why := why_alone(node, why_unmergeable(project, unique_id))):
            return why
    return ""


def _notes(base: Fingerprints, head: Fingerprints) -> tuple[str, ...]:
    """What kept columns from being told apart on either side, for all nodes alike."""
    problems = {**base.project.uncompiled, **head.project.uncompiled}
    if not problems:
        return ()
    [example, *_] = dict.fromkeys(problems.values())
    what = f"{len(problems)} nodes are compared by their code, not by column: {example}"
    return (what,)
