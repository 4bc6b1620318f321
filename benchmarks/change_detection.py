"""The plan beside other ways to tell what a commit changes, on the same edits of the same project.

    python -m benchmarks.change_detection run edits.jsonl --edits 250
    python -m benchmarks.change_detection report edits.jsonl

The edits and the truth are those of ``benchmarks.soundness``: a relation that a build from nothing
makes otherwise has changed. Each way says which nodes it would build; *recall* is how much of what
changed it names, *precision* how much of what it names changed. A trial counts if every way could
read the project.

SQLMesh is installed into an environment of its own, ``.state/sqlmesh``, the first time.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
from dagster_dbt import DagsterDbtTranslator
from rich.console import Console
from rich.table import Table
from sqlglot import parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from benchmarks.soundness import Score, Trial, run_trial
from benchmarks.soundness_world import State, Workshop, World
from benchmarks.sqlmesh_client import ENVIRONMENT, SQLMesh, sqlmesh_environment

PLAN, SQLMESH = "plan", "SQLMesh"
MODIFIED, NORMALIZED, CODE_VERSION = "state:modified+", "normalized SQL", "dagster-dbt"
WAYS = (PLAN, SQLMESH, NORMALIZED, MODIFIED, CODE_VERSION)
# What dbt keeps in a node's config and a table does not show.
_NOT_BUILT = frozenset(
    {"access", "description", "docs", "enabled", "freshness", "group", "meta", "packages", "tags"}
)
# Kinds of edits that are formatting or documentation.
_SAYS_NOTHING = ("cosmetic: ", "properties: cosmetic", "properties: column")
Manifest = Mapping[str, Any]
app = typer.Typer(add_completion=False)


class Recorder(Workshop):
    """A workshop that keeps the last world of each kind, and the SQL that dbt built it from."""

    def __init__(self, root: Path) -> None:
        self.worlds: dict[str, World] = {}
        self.sql: dict[str, dict[str, str]] = {}
        self._built: Any = None
        super().__init__(root)

    def build(self, state: State, keep: str = "base") -> World:
        world = self.worlds[keep] = super().build(state, keep)
        # dbt keeps no SQL of a microbatch model, which has some for each batch.
        self.sql[keep] = {u: sql.full for u, sql in world.prints.project.compiled.items()} | {
            result.node.unique_id: result.node.compiled_code
            for result in self._built.results
            if getattr(result.node, "compiled_code", None)
        }
        return world

    def _run(self, *arguments: Any) -> Any:
        result = super()._run(*arguments)
        if hasattr(result, "results"):
            self._built = result
        return result


# Ways that need nothing but the manifests and dbt's compiled SQL


def normalized(old: Manifest, new: Manifest, sql: Mapping[str, dict[str, str]]) -> set[str]:
    """Nodes with other SQL once it is parsed, or other config; and everything below.

    Comments, whitespace, case and names of tables' aliases do not matter.
    """

    def content(manifest: Manifest, unique_id: str, keep: str) -> Any:
        node = manifest["nodes"][unique_id]
        config = {k: v for k, v in node["config"].items() if k not in _NOT_BUILT}
        code = sql[keep].get(unique_id)
        body = canonical(code) if code else node["checksum"]
        return [body, config, node.get("relation_name"), node.get("contract")]

    old_ids = old["nodes"].keys()
    return with_descendants(
        new,
        (
            unique_id
            for unique_id in _nodes(new)
            if unique_id not in old_ids
            or content(old, unique_id, "base") != content(new, unique_id, "head")
        ),
    )


@lru_cache(maxsize=4096)
def canonical(sql: str) -> str:
    """SQL as sqlglot writes it, with every name qualified; as it stands if sqlglot cannot."""
    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return sql
    with contextlib.suppress(SqlglotError):
        tree = qualify(
            tree.copy(),
            dialect="duckdb",
            expand_stars=False,
            validate_qualify_columns=False,
            canonicalize_table_aliases=True,
        )
    return tree.sql(dialect="duckdb", comments=False)


def code_versions(old: Manifest, new: Manifest) -> set[str]:
    """Assets that dagster-dbt gives another code version, and what Dagster calls stale below."""
    translator = DagsterDbtTranslator()

    def versions(manifest: Manifest) -> dict[str, tuple[Any, str | None]]:
        return {
            unique_id: (translator.get_asset_key(node), translator.get_code_version(node))
            for unique_id in _nodes(manifest)
            if (node := manifest["nodes"][unique_id])["config"]["materialized"] != "ephemeral"
        }

    known = set(versions(old).values())
    return with_descendants(new, (u for u, said in versions(new).items() if said not in known))


def _nodes(manifest: Manifest) -> Iterator[str]:
    kinds = ("model", "seed", "snapshot")
    return (u for u, node in manifest["nodes"].items() if node["resource_type"] in kinds)


def with_descendants(manifest: Manifest, changed: Iterable[str]) -> set[str]:
    found = set(changed)
    waiting = list(found)
    while waiting:
        below = set(manifest["child_map"].get(waiting.pop(), ())) - found
        found |= below
        waiting += below
    return found


# Trials


@dataclass(frozen=True)
class Compared:
    """One commit: what changed, and what each way would build.

    Attributes:
        error: why SQLMesh could not say; "" if it could, or was not asked.
        ordinary: formatting, documentation, tests, or an edit of one model.
    """

    seed: int
    iteration: int
    kinds: list[str]
    ordinary: bool
    differ: list[str]
    said: dict[str, list[str]]
    error: str = ""


def compare(workshop: Recorder, sqlmesh: SQLMesh | None, seed: int, iteration: int) -> Compared:
    """One trial of ``benchmarks.soundness``, with the other ways beside.

    Raises:
        ValueError: the edits make no project that dbt can build.
    """
    trial = run_trial(workshop, seed, iteration)
    if trial.error:
        raise ValueError(trial.error)
    base, head = workshop.worlds["base"], workshop.worlds["head"]
    old, new = base.revision.manifest, head.revision.manifest
    said = {
        PLAN: set(trial.due),
        MODIFIED: set(trial.dbt),
        NORMALIZED: normalized(old, new, workshop.sql),
        CODE_VERSION: code_versions(old, new),
    }
    error = ""
    if sqlmesh:
        due, error = sqlmesh.due(head.state)
        said[SQLMESH] = set(due)
    return Compared(
        seed,
        iteration,
        trial.kinds,
        is_ordinary(trial, base.state, head.state),
        sorted(trial.differ),
        {way: sorted(nodes & head.names.keys()) for way, nodes in said.items()},
        error,
    )


def is_ordinary(trial: Trial, old: State, new: State) -> bool:
    """Whether people make such commits every day: see ``Compared``."""
    if len(trial.kinds) > 1:
        return False
    paths = old.files.keys() | new.files.keys()
    changed = [path for path in paths if old.files.get(path) != new.files.get(path)]
    one_model = len(changed) == 1 and "models/" in changed[0] and changed[0].endswith(".sql")
    return trial.kinds[0].startswith(_SAYS_NOTHING) or one_model


def comparisons(edits: int, seed: int, sqlmesh: Path | None, first: int = 0) -> Iterator[Compared]:
    """``edits`` commits that dbt can build. ``sqlmesh`` is the Python that has it."""
    numbers = count(first)
    with tempfile.TemporaryDirectory() as name:
        workshop = Recorder(Path(name) / "ours")
        other = SQLMesh(sqlmesh, Path(name) / "sqlmesh", workshop.base.state) if sqlmesh else None
        for _ in range(edits):
            while True:
                try:
                    yield compare(workshop, other, seed, next(numbers))
                    break
                except ValueError:
                    continue
        if other:
            other.close()


@app.command()
def run(
    out: Annotated[Path, typer.Argument(help="A line of JSON is added for each commit.")],
    edits: Annotated[int, typer.Option(help="How many commits.")] = 200,
    seed: Annotated[int, typer.Option()] = 1,
    first: Annotated[int, typer.Option(help="Number of the first commit.")] = 0,
    environment: Annotated[Path, typer.Option(help="Where SQLMesh is or will be.")] = ENVIRONMENT,
    *,
    without_sqlmesh: Annotated[bool, typer.Option("--without-sqlmesh")] = False,
) -> None:
    """Edit, build, and ask every way."""
    python = None if without_sqlmesh else sqlmesh_environment(environment.resolve())
    for compared in comparisons(edits, seed, python, first):
        with out.open("a") as file:
            file.write(json.dumps(asdict(compared)) + "\n")
    report([out])


@app.command()
def report(files: list[Path]) -> None:
    """Recall and precision of each way."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    commits = [Compared(**json.loads(line)) for line in lines]
    Console(highlight=False, soft_wrap=True).print(table(commits))


def table(commits: Sequence[Compared]) -> Table:
    read = [commit for commit in commits if not commit.error]
    edits = sum(len(commit.kinds) for commit in read)
    left_out = len(commits) - len(read)
    title = f"{edits} edits in {len(read)} commits; {left_out} left out, which SQLMesh cannot load"
    made = Table("commits", "way", "recall", "precision", "missed", "needless", title=title)
    groups = {"all": read, "ordinary": [commit for commit in read if commit.ordinary]}
    for name, group in groups.items():
        for way in (way for way in WAYS if all(way in commit.said for commit in group)):
            score = Score()
            for commit in group:
                score.add(set(commit.said[way]), set(commit.differ))
            made.add_row(
                f"{len(group)} {name}",
                way,
                f"{score.recall:.3f}",
                f"{score.precision:.2f}",
                f"{score.differ - score.right} of {score.differ}",
                f"{score.said - score.right} of {score.said}",
            )
        made.add_section()
    return made


if __name__ == "__main__":
    app()
