"""A revision is prepared once for the same files, and whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.dbt.parse import Revision, parse_into
from dbt_orchestration.revisions.analyse import analyse
from dbt_orchestration.revisions.current import current
from dbt_orchestration.revisions.kept import working_tree_home
from dbt_orchestration.revisions.working_tree import PrepareError, open_revision, prepare
from dbt_orchestration.settings.models import Settings
from tests.automation.site import launched_by
from tests.conftest import EVERY_NODE, make_settings
from tests.instances import dagster_in


@pytest.fixture
def editable(tmp_path: Path) -> Settings:
    shutil.copytree(EVERY_NODE, tmp_path / "project")
    return make_settings(tmp_path / "state", tmp_path / "project")


def test_the_same_files_are_parsed_once(prepared: Path) -> None:
    settings = make_settings(prepared)
    first = prepare(settings, "prod")
    before = first.manifest_path.stat().st_mtime_ns
    assert prepare(settings, "prod") == first
    assert first.manifest_path.stat().st_mtime_ns == before


def test_environments_have_revisions_of_their_own(prepared: Path) -> None:
    settings = make_settings(prepared)
    prod, dev = prepare(settings, "prod"), prepare(settings, "dev")
    assert prod.digest != dev.digest
    assert dev.manifest["nodes"]["model.every_node.merged"]["schema"] == "dev"


def test_an_edit_makes_a_new_revision_and_keeps_the_old_one(editable: Settings) -> None:
    before = prepare(editable, "prod")
    model = editable.project_dir / "models" / "marts" / "new_model.sql"
    model.write_text("select 1 as one")
    after = prepare(editable, "prod")
    assert after.digest != before.digest
    assert "model.every_node.new_model" in after.manifest["nodes"]
    assert (
        "model.every_node.new_model"
        not in open_revision(editable, "prod", before.digest).manifest["nodes"]
    )
    model.unlink()
    assert prepare(editable, "prod") == before


def test_a_model_that_does_not_parse_leaves_nothing_behind(editable: Settings) -> None:
    good = prepare(editable, "prod")
    broken = editable.project_dir / "models" / "broken.sql"
    broken.write_text("{{ config(materialized='table' }} select 1")
    with pytest.raises(PrepareError, match=r"dbt parse.*broken(.|\n)*models/broken\.sql"):
        prepare(editable, "prod")
    home = good.directory.parent
    assert [path for path in home.iterdir() if path.is_dir()] == [good.directory]
    broken.unlink()
    assert prepare(editable, "prod") == good


def test_files_that_change_all_the_time_are_not_parsed_for_ever(
    editable: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = editable.project_dir / "models" / "saved.sql"
    counted: list[int] = []

    def parse_and_save(*arguments: Any) -> Revision:
        counted.append(len(counted))
        saved.write_text(f"select {len(counted)} as one")
        return parse_into(*arguments)

    monkeypatch.setattr("dbt_orchestration.dbt.parse.parse_into", parse_and_save)
    monkeypatch.setattr("dbt_orchestration.revisions.prepare._TRIES", 2)
    with pytest.raises(PrepareError, match="changed each time while dbt parsed them"):
        prepare(editable, "prod")
    assert counted == [0, 1]
    monkeypatch.setattr("dbt_orchestration.dbt.parse.parse_into", parse_into)
    assert "model.every_node.saved" in prepare(editable, "prod").manifest["nodes"]


def test_a_file_saved_while_its_project_is_analysed_is_not_missed(
    editable: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = editable.project_dir / "models" / "saved.sql"

    def analyse_and_save(*arguments: Any) -> None:
        analyse(*arguments)
        saved.write_text("select 1 as one")

    monkeypatch.setattr("dbt_orchestration.revisions.prepare.analyse", analyse_and_save)
    revision = prepare(editable, "prod")
    assert "model.every_node.saved" in revision.fingerprints
    assert [path for path in revision.directory.parent.iterdir() if path.is_dir()] == [
        revision.directory
    ]


def test_what_a_killed_process_left_goes_with_the_next_parse(editable: Settings) -> None:
    good = prepare(editable, "prod")
    (good.directory.parent / ".preparing-left" / "compiled").mkdir(parents=True)
    (editable.project_dir / "models" / "another.sql").write_text("select 1 as one")
    new = prepare(editable, "prod")
    folders = {path for path in good.directory.parent.iterdir() if path.is_dir()}
    assert folders == {good.directory, new.directory}


def test_local_packages_are_installed(editable: Settings) -> None:
    package = editable.project_dir / "local" / "extra"
    (package / "models").mkdir(parents=True)
    (package / "dbt_project.yml").write_text("name: extra\nversion: '1.0.0'\nconfig-version: 2\n")
    (package / "models" / "from_package.sql").write_text("select 1 as one")
    (editable.project_dir / "packages.yml").write_text("packages: [{local: local/extra}]\n")
    assert "model.extra.from_package" in prepare(editable, "prod").manifest["nodes"]


def test_a_package_that_cannot_be_installed_is_named(editable: Settings) -> None:
    (editable.project_dir / "packages.yml").write_text("packages: [{local: local/nowhere}]\n")
    with pytest.raises(PrepareError, match=r"dbt deps(.|\n)*nowhere"):
        prepare(editable, "prod")


def test_a_load_forgets_old_revisions_and_none_that_a_run_waits_with(
    editable: Settings, tmp_path: Path
) -> None:
    settings = editable.model_copy(update={"keep_revisions": 2})

    @dg.job
    def waits() -> None:
        pass

    digests: list[str] = []
    with dagster_in(tmp_path) as instance:
        for number in range(4):
            model = settings.project_dir / "models" / "one_more.sql"
            model.write_text(f"select {number} as one")
            digests.append(current(settings, "prod"))
            if number == 0:
                launched_by(instance, waits, digests[0])
    home = working_tree_home(settings, "prod")
    kept = {path.name for path in home.iterdir() if path.is_dir()}
    assert kept == {digests[0], *digests[-2:]}
    assert open_revision(settings, "prod", digests[0]).fingerprints


def test_a_revision_that_is_gone_says_what_to_do(prepared: Path) -> None:
    with pytest.raises(PrepareError, match="is gone: reload the code location prod"):
        open_revision(make_settings(prepared), "prod", "0123456789abcdef")


def test_fingerprints_follow_results_and_not_text(editable: Settings) -> None:
    before = prepare(editable, "prod").fingerprints
    model = editable.project_dir / "models" / "staging" / "stg_orders.sql"
    model.write_text("-- a comment\n" + model.read_text())
    assert prepare(editable, "prod").fingerprints == before
    model.write_text(model.read_text().replace(", amount from", ", amount * 2 as amount from"))
    after = prepare(editable, "prod").fingerprints
    changed = {uid.split(".", 2)[2] for uid in after if after[uid] != before[uid]}
    # customers_v1 and _v2 read it through an ephemeral model.
    assert {"stg_orders", "orders_daily", "report", "customers.v1", "merged"} <= changed
    assert {"orders", "time_spine"}.isdisjoint(changed)


def test_a_revision_that_is_not_whole_is_prepared_again(editable: Settings) -> None:
    whole = prepare(editable, "prod")
    expected = dict(whole.fingerprints)
    whole.analysis_path.unlink()
    with pytest.raises(PrepareError, match="is gone"):
        open_revision(editable, "prod", whole.digest)
    assert prepare(editable, "prod").fingerprints == expected
    whole.manifest_path.write_bytes(b"")  # as a power cut leaves it
    assert prepare(editable, "prod").manifest["nodes"].keys() >= expected.keys()
