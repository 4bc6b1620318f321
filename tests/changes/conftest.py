"""The project of these tests, parsed and compiled once."""

from __future__ import annotations

import pytest

from dbt_orchestration.dbt.cache import Cache
from tests.changes.projects import Base, copy_project, read_state


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = copy_project(tmp_path_factory.mktemp("base") / "project")
    home = tmp_path_factory.mktemp("home")
    state = read_state(folder, home, Cache(home / "compiled.sqlite"), {})
    assert state.by_column.nodes.keys() == state.by_code.nodes.keys()
    return Base(folder, state, {})
