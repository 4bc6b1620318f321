"""The change engine: which nodes of a dbt project must be rebuilt between two states, and why.

Pure: no Dagster, no dbt process, no files, no clock.
"""
