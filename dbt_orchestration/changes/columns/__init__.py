"""Level 2: what decides the rows and each column of a compiled query, with sqlglot."""
