"""Dagster's webserver on one machine, where it has no login and nobody else may reach it."""

from __future__ import annotations

import dagster_webserver.app
from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from dbt_orchestration.own_pages import OwnPages

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Webserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver behind ``OwnPages``."""

    def build_middleware(self) -> list[Middleware]:
        """Dagster's middleware, behind ours."""
        return [Middleware(OwnPages, hosts=_LOCAL), *super().build_middleware()]


if __name__ == "__main__":
    vars(dagster_webserver.app).update(DagsterWebserver=Webserver)
    main()  # type: ignore[no-untyped-call]
