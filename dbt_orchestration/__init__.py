"""A Dagster code location for dbt: see README.md."""
