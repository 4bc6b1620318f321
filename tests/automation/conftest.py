"""What the sensor has prepared in a process of its own is prepared in the tests' own.

Such a process takes seconds to start. It has its tests in tests/faults/test_killed_preparers.py;
those in tests/e2e start it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbt_orchestration.dbt.internals import adapters
from tests.automation.site import Site, prepared_here
from tests.conftest import clean_environment
from tests.instances import dagster_in


@pytest.fixture(scope="package", autouse=True)
def _prepare_here() -> Iterator[None]:
    with prepared_here():
        yield


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of every built site: dbt parses all files anew where a warehouse has moved."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def first_build(
    request: pytest.FixtureRequest, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A site that the module's ``begin`` has written and built, away from its place."""
    _empty(place)
    with pytest.MonkeyPatch.context() as patch, dagster_in(place) as instance:
        clean_environment(patch)
        request.module.begin(Site.of(place, instance))
    adapters.close_duckdb()
    kept = tmp_path_factory.mktemp("built")
    shutil.copytree(place, kept, dirs_exist_ok=True, symlinks=True)
    return kept


@pytest.fixture
def built(first_build: Path, place: Path) -> Iterator[Site]:
    """The site after the module's first build, as if no test had touched it."""
    _empty(place)
    shutil.copytree(first_build, place, dirs_exist_ok=True, symlinks=True)
    with dagster_in(place) as instance:
        yield Site.of(place, instance)


def _empty(place: Path) -> None:
    """Nobody reads what the last test left, not even through a file that is still open."""
    adapters.close_duckdb()
    shutil.rmtree(place)
    place.mkdir()
