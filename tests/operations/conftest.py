"""Sites as in tests/automation. All forms of this folder begin with the same one, built once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dbt_orchestration.dbt.internals import adapters
from tests.automation import test_history
from tests.automation.conftest import _empty, _prepare_here, built, place
from tests.automation.site import Site
from tests.conftest import clean_environment
from tests.instances import dagster_in

__all__ = ["_prepare_here", "built", "place"]


@pytest.fixture(scope="package")
def first_build(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    _empty(place)
    with pytest.MonkeyPatch.context() as patch, dagster_in(place) as instance:
        clean_environment(patch)
        test_history.begin(Site.of(place, instance))
    adapters.close_duckdb()
    kept = tmp_path_factory.mktemp("built")
    shutil.copytree(place, kept, dirs_exist_ok=True, symlinks=True)
    return kept
