"""One machine: ``up``, ``demo``, and the Dagster that they run."""
