"""What the sensor has prepared in a process of its own is prepared in the tests' own.

Such a process takes seconds to start. It has its tests in tests/faults/test_killed_preparers.py;
those in tests/e2e start it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.automation.site import prepared_here


@pytest.fixture(scope="package", autouse=True)
def _prepare_here() -> Iterator[None]:
    with prepared_here():
        yield
