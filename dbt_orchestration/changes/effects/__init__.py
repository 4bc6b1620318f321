"""What hooks do to a warehouse, told from their text: no statement is run."""
