"""What Snowflake says that each query cost, as metadata of runs and assets."""
