"""The page that says each morning how an environment is, from what Dagster has recorded."""
