"""``dagster dev``, with the webserver of ``dbt_orchestration.local.webserver``."""

from __future__ import annotations

from dbt_orchestration import dagster_internals

if __name__ == "__main__":
    dagster_internals.serve("dbt_orchestration.local.webserver")
