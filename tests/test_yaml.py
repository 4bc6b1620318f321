"""The files that Dagster reads are valid, and agree with the settings."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import yaml

from dbt_orchestration.settings.models import load_settings
from tests.conftest import INSTANCE, REPOSITORY


def test_workspace_lists_every_environment_as_a_location() -> None:
    entries = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())["load_from"]
    modules = [entry["python_module"] for entry in entries]
    names = list(load_settings().environments)
    assert [module["attribute"] for module in modules] == names
    assert [module["location_name"] for module in modules] == names
    assert {module["module_name"] for module in modules} == {"dbt_orchestration.definitions"}


def test_dagster_accepts_the_instance_settings(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((INSTANCE).read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 0
        assert instance.run_monitoring_enabled
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1
        assert pools.pool_granularity is not None
        assert pools.pool_granularity.value == "run"
