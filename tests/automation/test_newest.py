"""The check that is red while the newest commit cannot be built, as the UI reads it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from tests.automation.site import Site
from tests.conftest import clean_environment
from tests.instances import dagster_in

KEY = dg.AssetCheckKey(dg.AssetKey(["prod", "pushes"]), "newest_commit_can_be_built")


def begin(site: Site) -> None:
    assert site.build().success


def evaluations(site: Site) -> list[dg.AssetCheckEvaluation]:
    """All, the newest first."""
    found = []
    for record in site.instance.event_log_storage.get_asset_check_execution_history(KEY, limit=20):
        event = record.event.dagster_event if record.event else None
        assert event is not None
        found.append(event.asset_check_evaluation_data)
    return found


def said(evaluation: dg.AssetCheckEvaluation) -> Mapping[str, Any]:
    return {key: value.value for key, value in evaluation.metadata.items()}


def by_hand(site: Site) -> dg.AssetCheckEvaluation:
    """What a person gets who presses Execute."""
    job = site.load().resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection=set(), asset_check_selection={KEY})
    result = job.execute_in_process(instance=site.instance)
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


def test_a_broken_push_is_red_and_the_next_good_one_green(built: Site) -> None:
    built.says()
    assert evaluations(built)[0].passed
    assert by_hand(built).passed
    built.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    sha = built.clone.push("a bracket too many")
    built.says()
    built.says()
    red, green, *_ = evaluations(built)
    assert (red.passed, green.passed) == (False, True)
    assert red.severity is dg.AssetCheckSeverity.ERROR
    facts = said(red)
    assert facts["commit"] == f"{sha[:10]} a bracket too many"
    assert facts["author"] == "Ann <ann@example.com>"
    assert facts["file"] == "models/customers.sql"
    assert facts["line"] == "1"
    assert "unexpected '}'" in facts["error"]
    assert "unexpected '}'" in (red.description or "")
    # Markdown shows it as it is, line by line.
    assert facts["error"] in (red.description or "")
    assert "\n" in facts["error"].strip("`\n")
    assert not by_hand(built).passed
    built.clone.edit("models/customers.sql", "{{ ref((", "{{ ref(")
    built.clone.push("mended")
    built.says()
    built.says()
    assert evaluations(built)[0].passed
    # Dagster shows no result that is older than what was last said of the asset.
    storage = built.instance.event_log_storage
    [shown] = storage.get_asset_check_execution_history(KEY, limit=1)
    pushes = built.instance.get_latest_materialization_event(KEY.asset_key)
    assert pushes
    assert shown.event
    assert pushes.timestamp < shown.event.timestamp


def test_a_remote_that_does_not_answer_is_a_warning(built: Site) -> None:
    built.says()
    hidden = built.clone.remote.rename(built.clone.remote.with_name("hidden"))
    built.cursors["prod"] = None
    built.says()
    warned = evaluations(built)[0]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "no such folder" in said(warned)["error"]
    hidden.rename(built.clone.remote)
    built.cursors["prod"] = None
    built.says()
    assert evaluations(built)[0].passed


def test_a_first_commit_that_is_broken_is_red_too(tmp_path: Path, monkeypatch: Any) -> None:
    clean_environment(monkeypatch)
    with dagster_in(tmp_path) as instance:
        site = Site.of(tmp_path, instance)
        shutil.rmtree(site.clone.folder / "dbt" / "models")
        site.clone.write("dbt_project.yml", "name: [")
        site.clone.push("no YAML")
        assert "cannot be prepared" in site.says()
        assert [each.passed for each in evaluations(site)] == [False]
        assert KEY.asset_key in site.load().resolve_asset_graph().get_all_asset_keys()
        assert not by_hand(site).passed
