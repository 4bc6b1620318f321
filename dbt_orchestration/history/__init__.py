"""The partition engine: keys, batches, and what a rebuild by date takes. Pure."""
