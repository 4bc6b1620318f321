"""Whether several batches of a model can be run as one, proven from its compiled SQL. Pure."""
