"""In which order a run builds what it rebuilds beside the old tables. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Phase:
    """What one dbt command builds.

    Attributes:
        nodes: unique ids.
        tests: unique ids of the tests on them.
        shadow: those of the nodes that are built beside their old table, which stays until the
            tests have passed.
        checked: those that are built beside as well if their table turns out not to fit.
    """

    nodes: set[str] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)
    shadow: set[str] = field(default_factory=set)
    checked: set[str] = field(default_factory=set)

    def leave_out(self, unique_ids: Collection[str]) -> None:
        """Build and test none of these, and put no table into the place of theirs."""
        for each in (self.nodes, self.tests, self.shadow, self.checked):
            each.difference_update(unique_ids)


def phases(
    manifest: Mapping[str, Any],
    nodes: Collection[str],
    tests: Collection[str],
    shadow: Collection[str],
    checked: Collection[str] = (),
) -> list[Phase]:
    """Cut what a run builds so that nothing reads a table before the new one is in its place.

    What is ``checked`` comes after all that it reads. Without ``shadow`` and ``checked`` that is
    one phase. A test belongs where the last of what it reads is built.
    """
    moved = {*shadow, *checked}
    every = {**manifest["nodes"], **manifest.get("unit_tests", {})}
    numbers: dict[str, int] = {}

    def number(unique_id: str) -> int:
        if unique_id not in numbers:
            numbers[unique_id] = 0  # unit tests depend on what depends on nothing of theirs
            parents = (every[unique_id].get("depends_on") or {}).get("nodes") or ()
            after = unique_id in nodes or unique_id not in tests
            numbers[unique_id] = max(
                (
                    number(p) + (after and (p in moved or (unique_id in checked and p in nodes)))
                    for p in parents
                    if p in every
                ),
                default=0,
            )
        return numbers[unique_id]

    if not moved:
        return [Phase(set(nodes), set(tests))]
    found: dict[int, Phase] = {}
    for unique_id in nodes:
        phase = found.setdefault(number(unique_id), Phase())
        phase.nodes.add(unique_id)
        if unique_id in shadow:
            phase.shadow.add(unique_id)
        elif unique_id in checked:
            phase.checked.add(unique_id)
    for unique_id in tests:
        found.setdefault(number(unique_id), Phase()).tests.add(unique_id)
    return [found[key] for key in sorted(found)]


def descendants(manifest: Mapping[str, Any], nodes: Collection[str]) -> set[str]:
    """Everything that reads one of ``nodes``, and what reads that; tests as well."""
    children = manifest["child_map"]
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found
