"""Dagster on a real PostgreSQL, from Debian's packages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from dbt_orchestration.local.up import make_home
from dbt_orchestration.settings import postgres
from dbt_orchestration.settings.models import Settings
from tests.automation.site import Site, prepared_here
from tests.e2e.running import free_port
from tests.postgres.server import PASSWORD

pytest.importorskip("dagster_postgres", reason="pip install '.[postgres]'")


@pytest.fixture
def instance(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    assert postgres.connection_problem(url) == ""
    monkeypatch.setenv(postgres.VARIABLE, postgres.with_driver(url))
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump({"storage": dict(postgres.STORAGE)}))
    with prepared_here(), dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_a_push_builds_what_it_changed_and_nothing_is_due_then(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    site = Site.of(tmp_path, instance)
    assert "nothing is due" in site.build_all()
    site.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) + 1")
    site.clone.push("totals")
    assert "nothing is due" in site.build_all()
    assert site.query("select orders from main.totals") == [(5,)]


def test_up_writes_the_name_of_the_variable_and_nowhere_the_password(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(postgres.VARIABLE, url)
    home = make_home(settings)
    text = (home / "dagster.yaml").read_text()
    assert PASSWORD not in text
    assert yaml.safe_load(text)["storage"] == postgres.STORAGE
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert "Postgres" in type(instance.run_storage).__name__
    assert os.environ[postgres.VARIABLE].startswith("postgresql+psycopg2://")


def test_who_cannot_connect_is_told_so_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(postgres.VARIABLE, f"postgresql://ann:{PASSWORD}@127.0.0.1:{free_port()}/d")
    said = postgres.connection_problem(os.environ[postgres.VARIABLE])
    assert "refused" in said
    assert postgres.VARIABLE in said
    assert PASSWORD not in said
    stated = {"storage": dict(postgres.STORAGE)}
    assert "write postgresql+psycopg2://" in postgres.plain_scheme(stated)
