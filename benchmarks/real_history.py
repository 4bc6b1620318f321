"""What the plan says of the commits of a real project: how much is due, needless, opaque, missed.

    python -m benchmarks.real_history REPOSITORY --packages FOLDER --profiles-dir FOLDER

Nothing is built, so that what differs is judged by text: each node's compiled SQL without comments
and whitespace, its config that counts, the name of its relation, a seed's values, and the same of
all it reads. A node that is due though all of this is the same is **needless**. A node whose own
compiled SQL is another text and that is not due is listed: a person says whether it is a **miss**
or another spelling. Where the SQL is decided by the warehouse, the text of the model and of the
macros that dbt says it calls stand for it.

Packages are taken from ``--packages`` (one folder for each, as ``dbt deps`` leaves them) for all
commits alike. The profile's warehouse is not asked.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import sqlglot
import typer
from rich.console import Console
from sqlglot.errors import SqlglotError

from dbt_orchestration.changes.config import content_keys, own_keys
from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.plan import diff
from dbt_orchestration.changes.project import Project
from dbt_orchestration.changes.terms import digest, digest_value
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.revisions.analyse import Analyst
from dbt_orchestration.revisions.git import check_out, run_git
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare

_READ = ("*.sql", "*.py", "*.csv", "*.yml", "*.yaml")


@dataclass
class Step:
    """One commit against the one before.

    Attributes:
        due: node to why.
        needless: those of ``due`` of which nothing is another text, nor of what they read.
        unsaid: nodes whose own compiled SQL is another text, and which are not due: the diff.
        changed: how many nodes' own compiled SQL, config, name or values are others.
        opaque: node to why.
    """

    commit: str
    subject: str
    nodes: int = 0
    due: dict[str, str] = field(default_factory=dict)
    needless: list[str] = field(default_factory=list)
    unsaid: dict[str, str] = field(default_factory=dict)
    changed: int = 0
    opaque: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Made:
    """What nodes are made of, by unique id: SQL, all that is their own, and parents as well."""

    sql: dict[str, str]
    own: dict[str, str]
    whole: dict[str, str]


def made_of(project: Project) -> Made:
    """Everything of a project that decides what is built, as text."""
    sql = {u: c.full + (c.incremental or "") for u, c in project.compiled.items()}
    own: dict[str, str] = {}
    whole: dict[str, str] = {}
    for unique_id in project.built:
        node = project.nodes[unique_id]
        text = sql.get(unique_id)
        parts = [
            _tokens(text, project.adapter) if text is not None else _uncompiled(project, unique_id),
            project.seeds.get(unique_id),
            sorted(own_keys(node).items()),
            sorted(content_keys(node).items()),
            [
                str(hook)
                for kind in ("pre-hook", "post-hook")
                for hook in node["config"].get(kind, [])
            ],
            project.relation_name(node),
        ]
        own[unique_id] = digest_value(parts)
        parents = [whole.get(p) or _source(project, p) for p in sorted(project.parents(unique_id))]
        whole[unique_id] = digest(own[unique_id], *parents)
    return Made(sql, own, whole)


def _source(project: Project, unique_id: str) -> str:
    node = project.nodes[unique_id]
    return digest(str(project.relation_name({**node, "alias": node.get("identifier")})))


def _tokens(sql: str, adapter: str) -> str:
    try:
        tokens = sqlglot.tokenize(sql, read=adapter)
    except SqlglotError:
        return " ".join(sql.split())
    return " ".join(f"{token.token_type.value}:{token.text.lower()}" for token in tokens)


def _uncompiled(project: Project, unique_id: str) -> str:
    macros = project.macros.nodes
    waiting = list(project.nodes[unique_id]["depends_on"].get("macros") or ())
    found: dict[str, str] = {}
    while waiting:
        macro = waiting.pop()
        if macro in macros and macro not in found:
            found[macro] = " ".join(macros[macro]["macro_sql"].split())
            waiting += macros[macro]["depends_on"]["macros"]
    code = " ".join((project.nodes[unique_id].get("raw_code") or "").split())
    return digest_value([code, sorted(found.items())])


def compare(commit: str, subject: str, old: Fingerprints, new: Fingerprints) -> Step:
    """The plan from one commit to the next, and what the texts say of it."""
    before, after = made_of(old.project), made_of(new.project)
    planned = diff(old, new)
    due = {
        node.unique_id: f"{node.action} {'/'.join(sorted({c.kind for c in node.changes}))}"
        f" ← {' ← '.join(node.reasons[0])}"
        for node in planned.due
    }
    adapter = new.project.adapter
    unsaid = {
        unique_id: _diff(before.sql[unique_id], text)
        for unique_id, text in after.sql.items()
        if unique_id in before.sql
        and unique_id not in due
        and not _is_ephemeral(new.project.nodes[unique_id])
        and _tokens(before.sql[unique_id], adapter) != _tokens(text, adapter)
    }
    return Step(
        commit,
        subject,
        len(new.nodes),
        due,
        [u for u in due if before.whole.get(u) == after.whole[u]],
        unsaid,
        sum(before.own.get(u) != own for u, own in after.own.items()),
        dict(planned.opaque),
    )


def _diff(old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
    return "\n".join(lines)


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return bool(node["config"].get("materialized") == "ephemeral")


def commits(git_dir: Path, head: str, inside: str, count: int) -> list[tuple[str, str]]:
    """The newest commits that touch the project, oldest first: SHA and subject."""
    paths = [f":(glob){inside}/**/{pattern}".replace("/./", "/") for pattern in _READ]
    log = ["log", "--first-parent", f"-{count}", "--format=%H %s", head, "--", *paths]
    lines = run_git(git_dir, *log).splitlines()
    return [(sha, subject) for sha, _, subject in (line.partition(" ") for line in lines)][::-1]


class History:
    """Reads the states of a project, each in a checkout of its own."""

    def __init__(self, git_dir: Path, inside: str, home: Path, target: DbtTarget, packages: Path):
        self._git_dir = git_dir
        self._inside = inside
        self._home = home
        self._wanted = target
        self._packages = packages
        self._analyst = Analyst(home)

    def fingerprints(self, commit: str) -> Fingerprints:
        """Raises:
        PrepareError: the commit does not parse.
        """
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".") as scratch:
            files = Path(scratch) / "files"
            check_out(self._git_dir, commit, files)
            # dbt parses again only what is edited, if the project lies where it lay.
            folder = self._home / "checkout"
            shutil.rmtree(folder, ignore_errors=True)
            files.rename(folder)
        project = folder / self._inside
        if self._packages.is_dir():
            shutil.rmtree(project / "dbt_packages", ignore_errors=True)
            (project / "dbt_packages").symlink_to(self._packages)
        wanted = self._wanted
        target = DbtTarget(
            project, self._home / "logs", wanted.profiles_dir, wanted.profile, wanted.target
        )
        return self._analyst.fingerprints(
            prepare(ProjectFolder(target), self._home / "revisions", analysed=False), target
        )


def walk(history: History, chosen: list[tuple[str, str]]) -> Iterator[Step | str]:
    """One step for each commit but the first; or why a commit is left out."""
    before: Fingerprints | None = None
    for commit, subject in chosen:
        started = time.monotonic()
        try:
            state = history.fingerprints(commit)
        except PrepareError as error:
            yield f"{commit[:10]} is left out: {' '.join(str(error).split())[:300]}"
            continue
        if before is not None:
            step = compare(commit, subject, before, state)
            step.seconds = time.monotonic() - started
            yield step
        before = state


def summary(steps: list[Step]) -> dict[str, Any]:
    """Sums over all steps."""
    due = sum(len(step.due) for step in steps)
    needless = sum(len(step.needless) for step in steps)
    opaque = sum(len(step.opaque) for step in steps)
    nodes = sum(step.nodes for step in steps)
    return {
        "commits": len(steps),
        "nodes": steps[-1].nodes if steps else 0,
        "changed": sum(step.changed for step in steps),
        "due": due,
        "full refresh": sum(why.startswith("full") for step in steps for why in step.due.values()),
        "needless": needless,
        "needless share": round(needless / due, 4) if due else 0,
        "opaque share": round(opaque / nodes, 4) if nodes else 0,
        "another text, not due": sum(len(step.unsaid) for step in steps),
        "opaque": dict(
            Counter(why[:80] for step in steps for why in step.opaque.values()).most_common(15)
        ),
    }


def main(  # noqa: PLR0917
    repository: Annotated[Path, typer.Argument(help="A git repository, or its git directory.")],
    profiles_dir: Annotated[Path, typer.Option(help="Where profiles.yml is.")],
    packages: Annotated[Path, typer.Option(help="Installed packages.")] = Path("dbt_packages"),
    project_dir: Annotated[str, typer.Option(help="In the repository.")] = ".",
    profile: Annotated[str | None, typer.Option()] = None,
    target: Annotated[str | None, typer.Option()] = None,
    head: Annotated[str, typer.Option(help="The newest commit.")] = "HEAD",
    count: Annotated[int, typer.Option("--commits", help="How many commits.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it.")] = None,
    home: Annotated[Path | None, typer.Option(help="Keep what is read, for a second run.")] = None,
) -> None:
    """Plan from each commit to the next."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    git_dir = Path(run_git(repository, "rev-parse", "--absolute-git-dir"))
    with tempfile.TemporaryDirectory() as scratch:
        place = (home or Path(scratch)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        wanted = DbtTarget(place, place, profiles_dir.resolve(), profile, target)
        history = History(git_dir, project_dir, place, wanted, packages.resolve())
        steps: list[Step] = []
        for step in walk(history, commits(git_dir, head, project_dir, count + 1)):
            if isinstance(step, str):
                console.print(step)
                continue
            steps.append(step)
            console.print(
                f"{step.commit[:10]} {len(step.due)} due of {step.nodes}, {len(step.needless)} "
                f"needless, {step.changed} changed, {len(step.opaque)} opaque, "
                f"{len(step.unsaid)} another text, {step.seconds:.0f} s: {step.subject[:60]}"
            )
    console.print(json.dumps(summary(steps), indent=1))
    if json_file:
        whole = {**summary(steps), "steps": [asdict(step) for step in steps]}
        json_file.write_text(json.dumps(whole, indent=1))
    sys.exit(not steps)


if __name__ == "__main__":
    os.environ.setdefault("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
    typer.run(main)
