"""One run: its plan, dbt's commands, shadow tables, locks, and a record of each result."""
