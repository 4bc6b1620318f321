"""The code link of an asset opens what a person has: the host's page, or the own working tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.location.assets import dbt_assets
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.settings.models import Git, Settings
from tests.automation.site import Clone, follow
from tests.revisions.test_packages import write


def opened(settings: Settings, revision: Revision, name: str) -> list[str]:
    """Where the code references of a model lead to."""
    specs = dbt_assets(settings, "prod", revision, settings.pool).definition.specs
    [spec] = [spec for spec in specs if spec.key == dg.AssetKey(["prod", name])]
    found: Any = spec.metadata.get("dagster/code_references")
    return [
        each.url if isinstance(each, dg.UrlCodeReference) else each.file_path
        for each in (found.code_references if found else ())
    ]


def test_on_a_host_it_is_the_file_at_the_commit(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    write(
        clone.folder,
        dbt__packages_yml="packages: [{local: ../shared}]\n",
        shared__dbt_project_yml="name: shared\n",
        shared__models__ours_sql="select 1 as id",
    )
    sha = clone.push("first")
    settings = follow(tmp_path, str(clone.remote))
    prepared = prepare_commit(settings, "prod")
    assert prepared.commit
    commit = replace(prepared.commit, url=f"https://github.com/acme/shop/commit/{sha}")
    revision = replace(prepared, commit=commit)
    page = f"https://github.com/acme/shop/blob/{sha}"
    assert opened(settings, revision, "customers") == [f"{page}/dbt/models/customers.sql"]
    assert opened(settings, revision, "ours") == [f"{page}/shared/models/ours.sql"]


def test_on_a_laptop_it_is_the_users_own_file(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    settings = follow(tmp_path, "", project_dir=clone.folder / "dbt", git=Git())
    revision = prepare_commit(settings, "prod")
    assert opened(settings, revision, "customers") == [
        str(clone.folder / "dbt" / "models" / "customers.sql")
    ]


def test_the_servers_copy_is_nobodys(tmp_path: Path) -> None:
    settings = follow(tmp_path, str(Clone(tmp_path).remote))
    assert opened(settings, prepare_commit(settings, "prod"), "customers") == []
