"""A person's clone, and an installation that follows its remote."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.settings.models import Settings
from tests.automation.site import Clone, follow


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def settings(clone: Clone, tmp_path: Path) -> Settings:
    return follow(tmp_path, str(clone.remote))
