"""The pauses between tries to tell a tool."""

from __future__ import annotations

import pytest

from dbt_orchestration.automation.pauses import LONGEST_PAUSE, pause_after


@pytest.mark.parametrize(
    ("tries", "seconds"), [(0, 30), (1, 60), (6, 1920), (7, 3600), (5_000, 3600)]
)
def test_each_pause_is_twice_as_long_as_the_one_before_up_to_an_hour(
    tries: int, seconds: float
) -> None:
    assert pause_after(tries) == seconds <= LONGEST_PAUSE
