"""What dbt renders counts as it is rendered, and what it was rendered from is seen at a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.location.definitions import check_revision
from dbt_orchestration.revisions.commits import is_current, prepare_commit
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings.models import Settings
from tests.automation.site import Clone, follow
from tests.conftest import make_settings

PROJECT = """
name: "{{ env_var('SHOP_NAME', 'shop') }}"
profile: duckdb
packages-install-path: "{{ env_var('SHOP_PACKAGES', 'installed') }}"
model-paths: ["{{ env_var('SHOP' ~ '_MODELS', 'models') }}"]
target-path: "{{ env_var('SHOP_TARGET', 'written') }}"
flags: {write_json: false, partial_parse: false, fail_fast: true}
vars:
  which: SHOP_BY_VAR
  factor: "{{ env_var('SHOP_IN_VAR', '1') }}"
models:
  +materialized: "{{ env_var('SHOP_KIND', 'table') }}"
"""
FILES = {
    "dbt_project.yml": PROJECT,
    "packages.yml": "packages: [{local: \"{{ env_var('SHOP_LOCAL', 'local') }}\"}]\n",
    "local/dbt_project.yml": "name: local\nvars: {deep: \"{{ env_var('SHOP_DEEP', '1') }}\"}\n",
    "local/macros/local.sql": (
        "{% macro far() %}{{ env_var('SHOP_' ~ 'FAR', '1') }}{% endmacro %}"
    ),
    "local/models/deep.sql": "select {{ var('deep') }} as n",
    "models/totals.sql": (
        "select {{ env_var('SHOP_' ~ 'SUM', '1') }} * {{ env_var(var('which'), '1') }}"
        " * {{ var('factor') }} * {{ local.far() }} as n"
    ),
    "models/totals.yml": (
        "models: [{name: totals, config: {alias: \"{{ env_var('SHOP_' ~ 'ALIAS', 'totals') }}\"}}]"
    ),
    "models/logs/clicks.sql": "select 1 as n",
    "models/target/goals.sql": "select 1 as n",
    "models/dbt_packages/more.sql": "select 1 as n",
    "macros/logs/one.sql": "{% macro one() %}1{% endmacro %}",
}
PROFILE = """
duckdb:
  target: prod
  outputs:
    prod:
      type: duckdb
      path: "{{ env_var('DBT_DUCKDB_PATH') }}"
      schema: "{{ env_var('SHOP_' ~ 'SCHEMA', 'main') }}"
"""
VARIABLES = {
    "SHOP_NAME": "shop",
    "SHOP_PACKAGES": "others",
    "SHOP_MODELS": "more",
    "SHOP_TARGET": "written",
    "SHOP_BY_VAR": "2",
    "SHOP_IN_VAR": "2",
    "SHOP_KIND": "view",
    "SHOP_LOCAL": "local",
    "SHOP_DEEP": "2",
    "SHOP_FAR": "2",
    "SHOP_SUM": "2",
    "SHOP_ALIAS": "sums",
    "SHOP_SCHEMA": "other",
}


def write(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    clone = Clone(tmp_path)
    write(clone.folder / "dbt")
    clone.push("rendered")
    made = follow(tmp_path, str(clone.remote))
    (made.profiles_dir / "profiles.yml").write_text(PROFILE)
    return made


def test_a_commit_is_prepared_anew_for_every_variable_that_dbt_has_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_commit(settings, "prod")
    assert first.folders["local"].resolve() == first.project_dir.resolve() / "local"
    assert (first.project_dir / "installed" / "local").is_symlink()
    assert not (first.project_dir / "dbt_packages").exists()
    check_revision(settings, "prod", first)
    totals = "model.shop.totals"
    assert first.manifest["nodes"][totals]["alias"] == "totals"
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
        assert not is_current(settings, "prod", first), name
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHOP_UNREAD", "2")
    assert is_current(settings, "prod", first)
    # What is compiled is another one, although no file is.
    for name, node in {
        "SHOP_BY_VAR": totals,
        "SHOP_IN_VAR": totals,
        "SHOP_DEEP": "model.local.deep",
    }.items():
        monkeypatch.setenv(name, "2")
        now = prepare_commit(settings, "prod").fingerprints
        assert {u for u in now if now[u] != first.fingerprints[u]} == {node}
        monkeypatch.delenv(name)


def test_the_working_tree_is_prepared_anew_for_what_dbt_has_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write(tmp_path / "project")
    (project / "profiles.yml").write_text(PROFILE)
    settings = make_settings(tmp_path / "state", project)
    first = prepare(settings, "prod")
    assert (project / "installed" / "local").is_symlink()
    # A folder's name is not its place: only what dbt writes, at the top, is no source.
    (project / "written").mkdir(exist_ok=True)
    (project / "written" / "manifest.json").write_text("{}")
    (project / "logs").mkdir()
    (project / "logs" / "dbt.txt").write_text("once")
    assert prepare(settings, "prod") == first
    made = {first.digest}
    monkeypatch.setenv("SHOP_SUM", "2")
    made.add(prepare(settings, "prod").digest)
    monkeypatch.delenv("SHOP_SUM")
    edited = ("models/logs/clicks", "models/target/goals", "models/dbt_packages/more")
    for path in (*edited, "macros/logs/one", "installed/local/macros/local"):
        file = project / f"{path}.sql"
        file.write_text(file.read_text() + "-- edited\n")
        made.add(prepare(settings, "prod").digest)
    assert len(made) == 7


def test_a_name_that_is_computed_at_a_run_may_be_any_that_stands_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write(tmp_path / "project")
    (project / "profiles.yml").write_text(PROFILE)
    file = project / "dbt_project.yml"
    file.write_text(file.read_text() + "  +meta: {labels: [SHOP_LABEL, OTHER_LABEL]}\n")
    hook = (
        "{% for name in model.config.meta.labels if execute %}{{ env_var(name, '') }}{% endfor %}"
    )
    (project / "models" / "hooked.sql").write_text(
        f'{{{{ config(post_hook="{hook}") }}}} select 1 as n'
    )
    settings = make_settings(tmp_path / "state", project)
    first = prepare(settings, "prod")
    monkeypatch.setenv("UNRELATED_LABEL", "2")
    monkeypatch.setenv("PATH", "/elsewhere")
    assert prepare(settings, "prod") == first
    monkeypatch.setenv("SHOP_LABEL", "2")
    second = prepare(settings, "prod")
    changed = {u for u, value in first.fingerprints.items() if second.fingerprints[u] != value}
    assert changed == {"model.shop.hooked"}
