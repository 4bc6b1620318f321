"""The same project has the same fingerprints everywhere; others say nothing about each other."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import dbt_orchestration
from dbt_orchestration.changes import fingerprints
from dbt_orchestration.changes.fingerprints import Fingerprints, fingerprint
from dbt_orchestration.changes.plan import diff
from dbt_orchestration.changes.project import Compiled, Project
from dbt_orchestration.dbt.cache import Cache
from tests.changes.projects import Base, State, compare, copy_project, edit, read_state

ROOT = Path(dbt_orchestration.__file__).parent
EDITS = [
    {"file": "models/staging/stg_customers.sql", "replace": "not deleted", "by": "true"},
    {"file": "models/marts/people_v2.sql", "replace": "email", "by": "email as mail"},
    {"file": "macros/money.sql", "replace": "* 100", "by": "* 1000"},
    {"file": "models/marts/everyone.sql", "move": "models/marts/all_people.sql"},
    {"file": "tests/revenue_is_known.sql", "replace": "is null", "by": "< 0"},
    {"file": "models/odd/fresh.sql", "write": "select 1 as one"},
]
IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from tests.changes.test_determinism import planned
print(planned(Path(sys.argv[1])))
"""


def _values(state: Fingerprints) -> dict[str, str]:
    return {unique_id: node.value for unique_id, node in state.nodes.items()}


def _save(project: Project, path: Path) -> None:
    fields = ("manifest", "settings", "environment", "seeds", "database", "schema")
    saved: dict[str, Any] = {name: getattr(project, name) for name in fields}
    saved["compiled"] = {u: asdict(sql) for u, sql in project.compiled.items()}
    path.write_text(json.dumps(saved, default=str))


def _load(path: Path) -> Project:
    saved = json.loads(path.read_text())
    compiled = {u: Compiled(**sql) for u, sql in saved.pop("compiled").items()}
    return Project(**saved, compiled=compiled)


def planned(folder: Path) -> str:
    """All fingerprints and the plan, as text, of the two projects saved in ``folder``."""
    old, new = (fingerprint(_load(folder / f"{name}.json")) for name in ("old", "new"))
    whole = [_values(old), _values(new), diff(old, new).as_json()]
    return json.dumps(whole)


@pytest.fixture(scope="module")
def edited(base: Base, tmp_path_factory: pytest.TempPathFactory) -> State:
    folder = copy_project(tmp_path_factory.mktemp("edited") / "project")
    edit(folder, EDITS)
    home = tmp_path_factory.mktemp("home")
    return read_state(folder, home, base.state.compiled, base.state.analyses)


def test_another_process_and_hash_seed_make_the_same_plan(
    base: Base, edited: State, tmp_path: Path
) -> None:
    _save(base.state.by_column.project, tmp_path / "old.json")
    _save(edited.by_column.project, tmp_path / "new.json")
    seen = {planned(tmp_path)}
    for seed in ("1", "2"):
        said = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT.parent,
            check=True,
            capture_output=True,
            text=True,
        )
        seen.add(said.stdout.strip())
    assert len(seen) == 1
    assert json.loads(seen.pop())[0] == _values(base.state.by_column)


def test_another_folder_has_the_same_fingerprints(base: Base, tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "some" / "where" / "else")
    state = read_state(folder, tmp_path / "home", Cache(tmp_path / "compiled.sqlite"), {})
    assert _values(state.by_code) == _values(base.state.by_code)
    assert _values(state.by_column) == _values(base.state.by_column)
    assert not diff(base.state.by_column, state.by_column)


def test_a_target_with_another_database_and_schema_has_the_same_fingerprints(
    base: Base, tmp_path: Path
) -> None:
    state = read_state(
        base.folder, tmp_path / "home", Cache(tmp_path / "compiled.sqlite"), {}, target="dev"
    )
    relation = state.project.nodes["model.shop.revenue"]["relation_name"]
    assert relation == '"sandbox"."dev_ann"."revenue"'
    assert _values(state.by_code) == _values(base.state.by_code)
    assert _values(state.by_column) == _values(base.state.by_column)


def test_analyses_known_from_before_change_nothing(base: Base) -> None:
    fresh = fingerprint(base.state.by_column.project)
    assert _values(fresh) == _values(base.state.by_column)
    assert {u: node.opaque for u, node in fresh.nodes.items()} == {
        u: node.opaque for u, node in base.state.by_column.nodes.items()
    }


def test_fingerprints_of_two_schemes_do_not_compare(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = base.state.by_column
    monkeypatch.setattr(fingerprints, "SCHEME", "another")
    new = fingerprint(old.project, dict(base.state.analyses))
    with pytest.raises(ValueError, match=r"schemes .* do not compare"):
        diff(old, new)


def test_a_new_scheme_makes_nothing_due_once_both_sides_are_made_again(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = base.state.by_column.project
    monkeypatch.setattr(fingerprints, "SCHEME", "another")
    analyses = dict(base.state.analyses)
    again = diff(fingerprint(project, analyses), fingerprint(project, analyses))
    assert not again
    assert not again.deleted
    assert again.unchanged == len(project.built) - 1  # one is ephemeral


def test_the_plan_as_json_is_what_is_documented(base: Base, edited: State) -> None:
    made = compare(base.state.by_column, edited.by_column)
    read = json.loads(json.dumps(made.as_json()))
    assert read["version"] == 1
    assert (read["base"], read["head"]) == ("base", "head")
    assert set(read) >= {"due", "deleted", "opaque", "unchanged"}
    for node in read["due"]:
        assert set(node) >= {"unique_id", "name", "resource_type", "action", "change", "reason"}
        assert node["unique_id"].startswith(node["resource_type"] + ".")
        assert node["action"] in ("build", "partitions", "full_refresh")
        assert node["change"]
        assert all(set(change) <= {"kind", "what"} and change["kind"] for change in node["change"])
        assert node["reason"]
        assert all(chain[0] == node["name"] and len(chain) > 1 for chain in node["reason"])
    assert {d["name"] for d in read["deleted"]} == {"everyone"}
    assert {tuple(node) for node in read["opaque"]} == {("unique_id", "why")}
    assert all(node["why"] for node in read["opaque"])
    due = {node["unique_id"] for node in read["due"]}
    assert {"model.shop.fresh", "model.shop.all_people", "model.shop.people.v2"} <= due
    built = [
        u
        for u in edited.project.built
        if edited.project.nodes[u]["config"].get("materialized") != "ephemeral"
    ]
    assert read["unchanged"] == len(built) - len(due)


def test_a_plan_of_nothing_as_json(base: Base) -> None:
    read = compare(base.state.by_column, base.state.by_column).as_json()
    assert (read["due"], read["checks"], read["deleted"]) == ([], [], [])


@pytest.mark.parametrize(
    "path", sorted((ROOT / "changes").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_change_engine_does_no_input_or_output(path: Path) -> None:
    allowed = ("dbt_orchestration.changes",)
    forbidden = {"dagster", "dbt", "subprocess", "os", "pathlib", "socket", "shutil", "tempfile"}
    for module in _imports(ast.parse(path.read_text())):
        assert module.partition(".")[0] not in forbidden, module
        assert not module.startswith("dbt_orchestration") or module.startswith(allowed), module


def test_the_change_engine_opens_no_file() -> None:
    called = {
        node.func.id
        for path in (ROOT / "changes").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"open", "print", "input", "exec", "eval", "__import__", "hash"})


def _imports(tree: ast.Module) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide what is imported"
            found.append(node.module or "")
    return found
