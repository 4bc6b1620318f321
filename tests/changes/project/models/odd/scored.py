"""A model in Python."""

from typing import Any


def model(dbt: Any, session: Any) -> Any:
    """Scores people."""
    dbt.config(materialized="table")
    return dbt.ref("stg_customers")  # all of them
