"""What an edit of a project makes due, and why: fixtures/projects_*.yml.

A case in those files edits tests/changes/project:

    - case: what it shows
      edits:                       # each one of
        - {file: models/a.sql, replace: x, by: y}
        - {file: models/a.sql, append: "-- a comment"}
        - {file: models/new.sql, write: select 1 as one}
        - {file: models/a.sql, move: models/b/a.sql}
        - {file: models/a.sql, delete: true}
      before:                      # edits made to the project first, on both sides
        - {file: models/b.sql, write: select 2 as two}
      environment: {SHOP_REGION: us}
      due: [a, b]                  # names of the nodes to build, parents first in the plan
      due_by_code: [a, b, c]       # without compiled SQL; only if it is tested
      actions: {a: full_refresh}   # all others: build
      changes: {a: [rows, column_added x, config materialized]}
      checks: [name of a test]     # tests that are other ones than before
      deleted: {a: '"warehouse"."main"."a"'}
      reasons: ["b ← a.x ← SQL (models/a.sql)"]   # chains that must be among the reasons
      notes: {a: "a part of what is said of the action"}

``due: everything`` is every node there is. ``due``, ``checks`` and ``deleted`` say all there is;
what is left out is empty.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.plan import Plan
from dbt_orchestration.changes.reasons import display_name
from dbt_orchestration.report import describe
from tests.changes.projects import Base, State, compare, edit, read_state

FIXTURES = Path(__file__).parent / "fixtures"
KEYS = {
    "case",
    "before",
    "edits",
    "environment",
    "due",
    "due_by_code",
    "actions",
    "changes",
    "checks",
    "deleted",
    "reasons",
    "notes",
}


def read_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for path in sorted(FIXTURES.glob("projects_*.yml")):
        for case in yaml.safe_load(path.read_text()):
            assert case.keys() <= KEYS, f"{path.name}: {case['case']}: {case.keys() - KEYS}"
            assert "due" in case or "due_by_code" in case, f"{path.name}: {case['case']}"
            cases.append(case)
    names = [case["case"] for case in cases]
    assert len(set(names)) == len(names)
    return cases


CASES = read_cases()


def _name(case: dict[str, Any]) -> str:
    return str(case["case"])


@pytest.fixture
def states(
    case: dict[str, Any], base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[State, State]:
    """The project before and after the edits of a case, in another folder."""
    if (known := base.edited.get(case["case"])) is not None:
        return known
    old, before = base.state, case.get("before", [])
    if before:
        old = _edited(base, tmp_path / "before", before)
    for name, value in case.get("environment", {}).items():
        monkeypatch.setenv(name, value)
    edits = [*before, *case.get("edits", ())]
    new = _edited(base, tmp_path / "after", edits, old.by_column)
    base.edited[case["case"]] = old, new
    return old, new


def _edited(
    base: Base, home: Path, edits: list[dict[str, Any]], previous: Fingerprints | None = None
) -> State:
    shutil.copytree(base.folder, home / "project")
    edit(home / "project", edits)
    # dbt parses again only what is edited, if the name of the revision says that it may.
    parsed = base.state.revision.directory
    shutil.copytree(parsed, home / "revisions" / parsed.name)
    known = base.state.compiled, base.state.analyses
    state = read_state(home / "project", home, *known, previous=previous)
    assert state.by_column.nodes.keys() == state.by_code.nodes.keys()
    return state


@pytest.mark.parametrize("case", [case for case in CASES if "due" in case], ids=_name)
def test_an_edit_makes_due_what_the_fixture_says(
    case: dict[str, Any], states: tuple[State, State]
) -> None:
    old, edited = states
    planned = compare(old.by_column, edited.by_column)
    assert _due(planned) == _wanted(case["due"], edited)
    assert _in_order(planned, edited)
    assert sorted(check.name for check in planned.checks) == sorted(case.get("checks", ()))
    assert {d.name: d.relation for d in planned.deleted} == case.get("deleted", {})
    actions = {_full(planned, n.unique_id): n.action for n in planned.due}
    assert {n: a for n, a in actions.items() if a != "build"} == case.get("actions", {})
    for name, changes in case.get("changes", {}).items():
        [node] = [n for n in planned.due if _full(planned, n.unique_id) == name]
        assert sorted(f"{c.kind} {c.what}".strip() for c in node.changes) == sorted(changes)
    chains = {" ← ".join(chain) for node in planned.due for chain in node.reasons}
    chains |= {" ← ".join(chain) for check in planned.checks for chain in check.reasons}
    assert set(case.get("reasons", ())) <= chains
    notes = {_full(planned, n.unique_id): n.note for n in planned.due if n.note}
    assert notes.keys() == case.get("notes", {}).keys()
    assert all(part in notes[name] for name, part in case.get("notes", {}).items())
    assert all(node.reasons and describe(node.changes) for node in planned.due)


@pytest.mark.parametrize("case", [case for case in CASES if "due_by_code" in case], ids=_name)
def test_without_compiled_sql_an_edit_makes_due_what_the_fixture_says(
    case: dict[str, Any], states: tuple[State, State]
) -> None:
    old, edited = states
    planned = compare(old.by_code, edited.by_code)
    assert _due(planned) == _wanted(case["due_by_code"], edited)
    assert set(_wanted(case.get("due", []), edited)) <= set(_due(planned))
    assert sorted(check.name for check in planned.checks) == sorted(case.get("checks", ()))
    assert {d.name: d.relation for d in planned.deleted} == case.get("deleted", {})


def _due(planned: Plan) -> list[str]:
    return sorted(_full(planned, node.unique_id) for node in planned.due)


def _wanted(names: list[str] | str, state: State) -> list[str]:
    if names != "everything":
        return sorted(names)
    nodes = {u: state.project.nodes[u] for u in state.project.built}
    built = [u for u, node in nodes.items() if node["config"].get("materialized") != "ephemeral"]
    return sorted(display_name(state.by_code, unique_id) for unique_id in built)


def _full(planned: Plan, unique_id: str) -> str:
    [name] = [node.name for node in planned.due if node.unique_id == unique_id]
    return name


def _in_order(planned: Plan, state: State) -> bool:
    places = {node.unique_id: place for place, node in enumerate(planned.due)}
    return all(
        places[parent] < place
        for unique_id, place in places.items()
        for parent in state.project.parents(unique_id)
        if parent in places
    )
