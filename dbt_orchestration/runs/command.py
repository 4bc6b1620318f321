"""The dbt commands that build nodes and run tests, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dbt_orchestration.history.phases import Phase


def commands(manifest: Mapping[str, Any], phase: Phase) -> Iterator[tuple[str, set[str]]]:
    """The dbt commands of a phase, each with the nodes and tests that it is for.

    ``dbt build`` runs a unit test only before its model, and leaves it out without a word if it
    does not build that.
    """
    alone = {
        test
        for test in phase.tests & manifest["unit_tests"].keys()
        if phase.nodes.isdisjoint(manifest["unit_tests"][test]["depends_on"]["nodes"])
    }
    if not phase.nodes:
        yield ("test" if alone else "build"), set(phase.tests)
        return
    yield "build", phase.nodes | phase.tests - alone
    if alone:
        yield "test", alone


def command_options(command: str, target_path: str, *, full_refresh: bool) -> list[str]:
    """``dbt build`` or ``dbt test``, without what it is for."""
    options = [command, "--indirect-selection", "empty", "--cache-selected-only"]
    options += ["--use-fast-test-edges"] if command == "build" else []
    options += ["--no-write-json", "--target-path", target_path]
    return [*options, "--full-refresh"] if full_refresh and command == "build" else options


def select_options(manifest: Mapping[str, Any], unique_ids: Collection[str]) -> list[str]:
    """What selects these nodes and tests in a terminal, as nearly as names can."""
    every = {**manifest["nodes"], **manifest["unit_tests"]}
    names = {".".join(every[unique_id]["fqn"]) for unique_id in unique_ids}
    # dbt takes `a.b` for everything in the folder b, too, if a model is called as its folder.
    others = [
        ".".join(node["fqn"])
        for unique_id, node in every.items()
        if unique_id not in unique_ids
        if any(".".join(node["fqn"][:end]) in names for end in range(2, len(node["fqn"])))
    ]
    options = ["--select", *sorted(names)]
    return [*options, "--exclude", *sorted(others)] if others else options


def vars_options(values: Mapping[str, Any]) -> list[str]:
    """``--vars``, if there are any."""
    return ["--vars", json.dumps(dict(values))] if values else []
