"""What can be set: in ``environments.yaml``, by variables, and under ``meta.dagster`` of a node."""
