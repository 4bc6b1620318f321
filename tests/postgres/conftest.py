from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.server import postgresql


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with postgresql() as server:
        yield server.url
