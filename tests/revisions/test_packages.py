"""Packages are copied from the commit before while all that states them is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.revisions import packages
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.revisions.packages import stated_packages
from dbt_orchestration.settings.models import Settings
from tests.automation.site import Clone


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(path.name.replace("_yml", ".yml").replace("_sql", ".sql"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_local_package_that_wants_another_one_gets_it(
    clone: Clone, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        clone.folder,
        dbt__packages_yml="packages: [{local: ../shared}]\n",
        shared__dbt_project_yml="name: shared\n",
        shared__macros__shared_sql="{% macro shared() %}1{% endmacro %}",
        deep__dbt_project_yml="name: deep\n",
        deep__macros__deep_sql="{% macro deep() %}1{% endmacro %}",
    )
    clone.edit("models/totals.sql", "sum(orders)", "{{ shared.shared() }} * sum(orders)")
    clone.push("shared")
    first = prepare_commit(settings, "prod")
    assert set(first.folders) == {"shop", "shared"}
    # Its own file is all that says so. dbt takes the path from the root project.
    write(
        clone.folder,
        shared__packages_yml="packages: [{local: ../deep}]\n",
        shared__macros__shared_sql="{% macro shared() %}{{ deep.deep() }}{% endmacro %}",
    )
    clone.push("deep")
    second = prepare_commit(settings, "prod")
    assert set(second.folders) == {"shop", "shared", "deep"}
    # What the packages consist of is read where they lie, and needs no installation.
    monkeypatch.setattr(packages, "run_dbt", None)
    write(clone.folder, deep__macros__deep_sql="{% macro deep() %}2{% endmacro %}")
    clone.push("edited")
    third = prepare_commit(settings, "prod")
    totals = "model.shop.totals"
    assert third.fingerprints[totals] != second.fingerprints[totals]
    assert {folder.resolve().is_relative_to(third.directory) for folder in third.folders.values()}


def test_packages_are_stated_by_what_dbt_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        shop__dbt_project_yml="name: shop\nprofile: shop\n",
        shop__profiles_yml="shop: {target: a, outputs: {a: {type: duckdb, path: x.duckdb}}}\n",
        one__dbt_project_yml="name: one\n",
        two__dbt_project_yml="name: two\n",
    )
    project = tmp_path / "shop"
    target = DbtTarget(project, tmp_path / "logs", project)
    assert stated_packages(target) == ""
    local = "packages:\n  - local: \"../{{ env_var('WHICH', 'one') }}\"  # this one\n"
    write(project, packages_yml=local)
    seen = [stated_packages(target)]
    write(project, packages_yml=local.replace("  # this one", ""))
    assert stated_packages(target) == seen[0]
    monkeypatch.setenv("WHICH", "two")
    seen.append(stated_packages(target))
    write(tmp_path, two__dbt_project_yml="name: second\n")
    seen.append(stated_packages(target))
    # A circle ends.
    write(tmp_path, two__dependencies_yml="packages: [{local: ../one}, {local: ../two}]\n")
    seen.append(stated_packages(target))
    write(project, **{"package-lock_yml": "packages: []\n"})
    seen.append(stated_packages(target))
    assert len(set(seen)) == 5


def test_a_commit_without_a_lock_file_uses_what_the_working_tree_has_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tree", "commit"):
        write(
            tmp_path / name,
            dbt_project_yml="name: shop\nprofile: shop\n",
            packages_yml="packages: [{local: one}]\n",
            one__dbt_project_yml="name: one\n",
        )
    (tmp_path / "tree" / "dbt_packages").mkdir()
    (tmp_path / "tree" / "dbt_packages" / "one").symlink_to(tmp_path / "tree" / "one")
    lock = {"package-lock_yml": "packages: [{local: one}]\n"}
    write(tmp_path / "tree", **lock)  # as dbt deps leaves it, and not committed
    monkeypatch.setattr(packages, "run_dbt", None)
    target = DbtTarget(tmp_path / "commit", tmp_path / "logs")
    packages.provide_packages(target, tmp_path / "tree", tmp_path / "tree")
    installed = tmp_path / "commit" / "dbt_packages" / "one"
    assert installed.resolve() == tmp_path / "commit" / "one"
