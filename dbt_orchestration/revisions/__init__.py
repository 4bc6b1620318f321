"""From a commit to a prepared revision: git, packages, the stored result, and its explanations."""
