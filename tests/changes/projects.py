"""Edited copies of tests/changes/project, and the plans for the edits."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dbt_orchestration.changes.fingerprints import Fingerprints, fingerprint
from dbt_orchestration.changes.plan import Plan, diff
from dbt_orchestration.changes.project import Project
from dbt_orchestration.dbt.cache import Cache
from dbt_orchestration.dbt.compile import compile_nodes
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.dbt.read import read_project
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare

PROJECT = Path(__file__).parent / "project"
# dbt hashes only the path of a seed larger than this.
_MEBIBYTE = 1 << 20

Analyses = dict[str, Any]


@dataclass(frozen=True)
class State:
    """A parsed project. ``by_code`` is what level 1 knows of it, ``by_column`` level 2."""

    revision: Revision
    target: DbtTarget
    project: Project
    compiled: Cache
    analyses: Analyses = field(repr=False)
    previous: Fingerprints | None = field(default=None, repr=False)

    @cached_property
    def by_code(self) -> Fingerprints:
        return fingerprint(self.project, self.analyses)

    @cached_property
    def by_column(self) -> Fingerprints:
        project = compile_nodes(self.project, self.revision, self.target, self.compiled)
        assert not project.uncompiled
        made = fingerprint(project, self.analyses)
        again = fingerprint(project, self.analyses, self.previous)
        assert {u: n.value for u, n in made.nodes.items()} == {
            u: n.value for u, n in again.nodes.items()
        }, "taken over from the state before the edits"
        return made


@dataclass(frozen=True)
class Base:
    """The project before any edit, and what was read of copies: before and after the edits."""

    folder: Path
    state: State
    edited: dict[str, tuple[State, State]]


def copy_project(folder: Path) -> Path:
    """The project in ``folder``, with a seed that is too large for dbt to hash."""
    shutil.copytree(PROJECT, folder)
    lines = [f"{number},{'x' * 60}\n" for number in range(_MEBIBYTE // 60)]
    (folder / "seeds" / "large.csv").write_text("number,text\n" + "".join(lines))
    return folder


def read_state(
    project: Path,
    home: Path,
    compiled: Cache,
    analyses: Analyses,
    *,
    target: str = "prod",
    previous: Fingerprints | None = None,
) -> State:
    """Parse a project; fast if a revision of it is in ``home``."""
    chosen = DbtTarget(project, home / "logs", project, "shop", target)
    revision = prepare(ProjectFolder(chosen), home / "revisions", analysed=False)
    return State(revision, chosen, read_project(revision, chosen), compiled, analyses, previous)


def edit(project: Path, edits: Iterable[Mapping[str, Any]]) -> None:
    """Change files: fixtures/projects_*.yml says how an edit is written."""
    for change in edits:
        path = project / change["file"]
        if "replace" in change:
            text = path.read_text()
            assert change["replace"] in text, f"{change['file']} has no {change['replace']!r}"
            path.write_text(text.replace(change["replace"], change["by"]))
        elif "append" in change:
            path.write_text(path.read_text() + change["append"])
        elif "write" in change:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(change["write"])
        elif "move" in change:
            target = project / change["move"]
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        else:
            assert change["delete"] is True
            path.unlink()


def compare(old: Fingerprints, new: Fingerprints) -> Plan:
    """The plan, having made sure that nothing is due from a state to itself."""
    assert not diff(new, new)
    return replace(diff(old, new), base="base", head="head")
