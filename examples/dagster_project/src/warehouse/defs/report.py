"""An asset of our own, which reads a dbt model."""

import os

import dagster as dg
import duckdb

# As in dbt/profiles.yml: in the folder in which Dagster runs.
DATABASE = os.environ.get("WAREHOUSE", "warehouse.duckdb")


@dg.asset(deps=["customers"], group_name="reports")
def best_customer() -> dg.MaterializeResult[None]:
    """Who has ordered most."""
    with duckdb.connect(DATABASE) as connection:
        [[name]] = connection.execute(
            "select customer from customers order by amount desc limit 1"
        ).fetchall()
    return dg.MaterializeResult(metadata={"customer": name})
