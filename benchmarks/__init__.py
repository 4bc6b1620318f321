"""Measurements that are run by hand: speed, and soundness of the change engine."""
