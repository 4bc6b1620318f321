"""The partition engine: which partitions there are, which a run builds, and how. Pure functions."""
