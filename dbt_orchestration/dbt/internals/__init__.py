"""The only imports of dbt's private parts. ``tests/test_dbt_internals.py`` has a test for each."""
