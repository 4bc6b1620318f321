"""What Dagster recorded as built, and what is stale or due because of it."""
