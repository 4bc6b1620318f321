"""Whether what a push left is what a build from nothing makes; and if not, whether it should be.

What nobody can compute is left out, and why is said for each node: snapshots, models whose owner
keeps their history, what waits for a person, what depends on the order in which rows lie, and
incremental SQL that makes another table of the same rows when it runs a second time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.history_nothing import NotBuiltError, Nothing
from benchmarks.history_world import Content, Node, Whole, differ, reads

SNAPSHOT = "a snapshot"
KEPT = "its owner keeps its history"
WAITS = "waits for a person"
FOLLOWS = "is what its SQL makes of what it reads, which is left out"
UNORDERED = "depends on the order of the rows that it reads"
UNFAITHFUL = "its incremental SQL changes the table that it made itself"
CHANGING = "reads a table that is another one each time it is built"
PARSED = "dbt's partial parse is not what dbt parses anew"


@dataclass
class Verdict:
    """What was found.

    Attributes:
        same: how many nodes are as from nothing.
        wrong: how nodes differ that should not, by unique id.
        left_out: why, of nodes that differ and may.
    """

    same: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class Judge:
    """Compares one environment with builds from nothing, over all its history.

    Attributes:
        kept: incremental models that differ because their owner once kept their history.
    """

    nothing: Nothing
    database: Path
    kept: set[str] = field(default_factory=set)

    def compare(self, whole: Whole, found: Content, waiting: Collection[str]) -> Verdict:
        """Compare all nodes of ``whole`` with what stands in the environment."""
        verdict = Verdict()
        suspects: dict[str, str] = {}
        for unique_id, node in whole.nodes.items():
            how = differ(whole.content[unique_id], found[unique_id])
            if not how:
                verdict.same += 1
                self.kept.discard(unique_id)
            elif node.kind == "snapshot" and not isinstance(found[unique_id], str):
                verdict.left_out[unique_id] = SNAPSHOT
            elif unique_id in waiting:
                verdict.left_out[unique_id] = WAITS
            elif node.keeps_history or (node.incremental and unique_id in self.kept):
                self.kept.add(unique_id)
                verdict.left_out[unique_id] = KEPT
            else:
                suspects[unique_id] = how
        for layer in _layers(whole.nodes, suspects):
            self._look_at(whole, found, {u: suspects[u] for u in layer}, verdict)
            if verdict.wrong:
                break  # what reads it may follow from it
        return verdict

    def _look_at(
        self, whole: Whole, found: Content, suspects: Mapping[str, str], verdict: Verdict
    ) -> None:
        """Tell what is wrong from what has to be; none of these nodes reads another."""
        rebuilt = self._again(whole, self.database, suspects)
        changing = {u for u, why in verdict.left_out.items() if why == UNFAITHFUL}
        for unique_id, how in suspects.items():
            node = whole.nodes[unique_id]
            same = not differ(rebuilt[unique_id], found[unique_id])
            if same and reads(whole.nodes, unique_id) & verdict.left_out.keys():
                verdict.left_out[unique_id] = FOLLOWS
            elif reads(whole.nodes, unique_id) & changing:
                verdict.left_out[unique_id] = CHANGING
            elif self._is_unordered(whole, unique_id):
                verdict.left_out[unique_id] = UNORDERED
            elif node.incremental and self._is_unfaithful(whole, unique_id):
                verdict.left_out[unique_id] = UNFAITHFUL
            elif self._is_parsed_wrong(whole, found, unique_id):
                verdict.left_out[unique_id] = PARSED
            else:
                verdict.wrong[unique_id] = how

    def _again(
        self,
        whole: Whole,
        database: Path,
        unique_ids: Collection[str],
        *,
        full_refresh: bool = True,
        turned: Collection[str] = (),
    ) -> Content:
        try:
            return self.nothing.again(
                whole, database, unique_ids, full_refresh=full_refresh, turned=turned
            )
        except NotBuiltError as error:
            return dict.fromkeys(unique_ids, f"cannot be built in its place: {error}")

    def _is_unordered(self, whole: Whole, unique_id: str) -> bool:
        tables = set()
        for parent in reads(whole.nodes, unique_id):
            content = whole.content[parent]
            if not isinstance(content, str) and content.kind == "table":
                tables.add(whole.nodes[parent].relation)
        once = self._again(whole, whole.database, {unique_id})[unique_id]
        turned = self._again(whole, whole.database, {unique_id}, turned=tables)[unique_id]
        return bool(differ(once, turned))

    def _is_unfaithful(self, whole: Whole, unique_id: str) -> bool:
        partitions = whole.nodes[unique_id].partitions
        if partitions and partitions.is_microbatch:
            return False
        twice = self._again(whole, whole.database, {unique_id}, full_refresh=False)
        return bool(differ(whole.content[unique_id], twice[unique_id]))

    def _is_parsed_wrong(self, whole: Whole, found: Content, unique_id: str) -> bool:
        try:
            cold = self.nothing.build_cold(whole.state)
        except NotBuiltError:
            return False
        return unique_id in cold.content and not differ(cold.content[unique_id], found[unique_id])


def _layers(nodes: Mapping[str, Node], suspects: Collection[str]) -> Iterator[set[str]]:
    """Suspects none of which reads another one, those first that read no other suspect."""
    left = {u: reads(nodes, u) & set(suspects) for u in suspects}
    while left:
        layer = {u for u, above in left.items() if not above & left.keys()}
        yield layer
        left = {u: above for u, above in left.items() if u not in layer}
