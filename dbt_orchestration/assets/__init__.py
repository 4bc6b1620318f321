"""A revision's nodes as Dagster's assets: keys, specs, checks, and how they look."""
