"""A config that is made from the clock is said to be, and is evaluated anew each day."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.dbt import clock, facts
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.revisions.commits import find_commit, prepare_commit
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare
from tests.automation.site import Clone, follow
from tests.dbt.test_compile import write

FILES = {
    "dbt_project.yml": (
        "name: shop\nprofile: shop\n"
        "models: {shop: {yearly: {+alias: \"y_{{ run_started_at.strftime('%Y') }}\"}}}\n"
    ),
    "profiles.yml": "shop: {target: a, outputs: {a: {type: duckdb, path: nowhere/x.duckdb}}}\n",
    "macros/stamped.sql": (
        "{% macro stamped(name) %}"
        "{{ return(name ~ modules.datetime.datetime.now().strftime('%S')) }}{% endmacro %}"
        "{% macro date() %}{{ run_started_at }}{% endmacro %}"
    ),
    "models/yearly/a.sql": "select 1 as n",
    "models/by_set.sql": (
        "{% set s = run_started_at.strftime('%H%M%S') %}{{ config(alias='t_' ~ s) }}select 1 as n"
    ),
    "models/by_macro.sql": "{{ config(alias=stamped('c')) }}select 1 as n",
    "models/by_file.sql": "select 1 as n",
    "models/by_file.yml": (
        'models:\n  - name: by_file\n    config: {alias: "d_{{ invocation_id[:8] }}"}\n'
        '  - name: plain\n    description: "{{ run_started_at }}"\n'
    ),
    # What its SQL says, or is called, makes no config.
    "models/plain.sql": (
        "{{ config(tags=['date'], meta={'stamped': 1}) }}"
        "select '{{ run_started_at }}' as n, '{{ stamped('x') }}' as m"
    ),
}
CLOCK = {f"model.shop.{name}" for name in ("a", "by_set", "by_macro", "by_file")}


def parsed(project: Path, home: Path) -> Revision:
    source = ProjectFolder(DbtTarget(project, home / "logs", project))
    return prepare(source, home / "revisions", analysed=False)


def test_nodes_whose_config_is_made_from_the_clock_are_known(tmp_path: Path) -> None:
    write(tmp_path / "shop", FILES)
    assert parsed(tmp_path / "shop", tmp_path).clock == CLOCK
    naming = (
        "{% macro generate_alias_name(custom, node) %}{{ node.name }}_{{ date() }}{% endmacro %}"
    )
    write(tmp_path / "shop", {"macros/naming.sql": naming})
    assert parsed(tmp_path / "shop", tmp_path).clock == {*CLOCK, "model.shop.plain"}


def test_the_next_day_it_is_evaluated_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = Clone(tmp_path)
    clone.edit(
        "models/totals.sql", "select", "{{ config(alias='totals_' ~ invocation_id) }} select"
    )
    sha = clone.push("clock")
    settings = follow(tmp_path, str(clone.remote))
    first = prepare_commit(settings, "prod")
    assert first.clock == {"model.shop.totals"}
    assert prepare_commit(settings, "prod") == first
    monkeypatch.setattr(facts, "today", lambda: "2100-01-01")
    assert clock.today() != "2100-01-01"
    assert find_commit(settings, "prod", sha) is None
    second = prepare_commit(settings, "prod")
    names = {r.manifest["nodes"]["model.shop.totals"]["alias"] for r in (first, second)}
    assert len(names) == 2
    assert first.digest[:40] == second.digest[:40]
