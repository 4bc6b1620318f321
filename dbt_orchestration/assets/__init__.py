"""dbt nodes as Dagster assets: keys, partitions, checks, and the one dbt invocation of a run."""
