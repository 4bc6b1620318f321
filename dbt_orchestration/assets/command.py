"""The dbt command that builds nodes and runs tests, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any


def build_command(
    manifest: Mapping[str, Any],
    unique_ids: Collection[str],
    target_path: str,
    *,
    full_refresh: bool,
) -> list[str]:
    """``dbt build`` of exactly these nodes and tests."""
    command = ["build", "--indirect-selection", "empty", "--cache-selected-only"]
    command += ["--use-fast-test-edges"]
    command += ["--no-write-json", "--target-path", target_path]
    if full_refresh:
        command.append("--full-refresh")
    every = {**manifest["nodes"], **manifest["unit_tests"]}
    names = {".".join(every[unique_id]["fqn"]) for unique_id in unique_ids}
    # dbt takes `a.b` for everything in the folder b, too, if a model is called as its folder.
    others = [
        ".".join(node["fqn"])
        for unique_id, node in every.items()
        if unique_id not in unique_ids
        if any(".".join(node["fqn"][:end]) in names for end in range(2, len(node["fqn"])))
    ]
    command += ["--select", *sorted(names)]
    return [*command, "--exclude", *sorted(others)] if others else command


def vars_options(values: Mapping[str, Any]) -> list[str]:
    """``--vars``, if there are any."""
    return ["--vars", json.dumps(dict(values))] if values else []
