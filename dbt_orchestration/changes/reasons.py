"""Why a node is due: chains from the node, through the columns it reads, to what was edited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest

from dbt_orchestration.changes.components import describe
from dbt_orchestration.changes.fingerprints import Fingerprint, Fingerprints
from dbt_orchestration.changes.terms import REST, ROWS, WHOLE, Reference, Relation, Term

Chain = tuple[str, ...]
# More causes than this tell a person nothing more.
_MOST = 10


class Reasons:
    """Explains differences between two states.

    Args:
        former: new unique ids to those of the nodes they were renamed from.
    """

    def __init__(self, base: Fingerprints, head: Fingerprints, former: Mapping[str, str]) -> None:
        self._base = base
        self._head = head
        self._former = former
        self._known: dict[tuple[str, str], dict[str, Chain]] = {}

    def of(self, unique_id: str) -> tuple[Chain, ...]:
        """Chains for a due node, one for each cause, the shortest first."""
        node = self._head.nodes[unique_id]
        before = self._before(unique_id)
        name = self._name(unique_id)
        if before is None:
            path = self._head.project.nodes[unique_id].get("original_file_path", "")
            return ((name, f"new ({path})"),)
        causes: dict[str, Chain] = {}
        if before.unique_id != unique_id:
            causes["renamed"] = (f"renamed from {before.unique_id.partition('.')[2]}",)
        old, new = before.components, node.components
        labels = self._labels(unique_id, old.own, new.own)
        labels += self._labels(unique_id, old.wide, new.wide)
        causes.update({label: (label,) for label in labels})
        for target in self._changed_targets(before, node):
            _merge(causes, self._explain(unique_id, target))
        for kept in self.no_longer_kept(node):
            causes[f"history {kept}"] = (f"history that {display_name(self._base, kept)} kept",)
        if not causes:
            labels = self._labels(unique_id, old.code, new.code)
            causes = {label: (label,) for label in labels or ["columns of what it reads"]}
        chains = sorted({(name, *chain) for chain in causes.values()}, key=_order)
        return tuple(chains[:_MOST])

    def no_longer_kept(self, node: Fingerprint) -> frozenset[str]:
        """Nodes of the base whose history the node held or read, and holds or reads no more."""
        before = self._before(node.unique_id)
        if before is None:
            return frozenset()
        return before.keeps - {self._former.get(u, u) for u in node.keeps}

    def of_check(self, unique_id: str) -> tuple[Chain, ...]:
        """Chains for a test whose definition changed."""
        node = self._head.project.nodes[unique_id]
        before = self._base.checks.get(unique_id)
        if before is None:
            return ((node["name"], f"new ({node['original_file_path']})"),)
        after = self._head.checks[unique_id]
        labels = self._labels(unique_id, before.code, after.code)
        return tuple((node["name"], label) for label in labels[:_MOST])

    def _explain(self, unique_id: str, target: str) -> dict[str, Chain]:
        """Causes of a difference in a node's rows, a column of it, or anything in it."""
        if (known := self._known.get((unique_id, target))) is not None:
            return known
        self._known[unique_id, target] = {}
        node, before = self._head.nodes[unique_id], self._before(unique_id)
        if before is None:
            path = self._head.project.nodes[unique_id].get("original_file_path", "")
            causes: dict[str, Chain] = {f"new {unique_id}": (f"new ({path})",)}
        else:
            causes = self._causes(unique_id, before, node, target)
        # Of thousands, those that could be shown: the next node's chains are made of them.
        few = dict(nsmallest(_MOST, causes.items(), key=lambda cause: _order(cause[1])))
        self._known[unique_id, target] = few
        return few

    def _causes(
        self, unique_id: str, before: Fingerprint, node: Fingerprint, target: str
    ) -> dict[str, Chain]:
        old, new = before.components, node.components
        labels = []
        if target in (ROWS, WHOLE, REST):
            labels += self._labels(unique_id, old.content, new.content)
        if _keys(before.terms, target) != _keys(node.terms, target):
            labels += self._labels(unique_id, old.code, new.code)
        causes: dict[str, Chain] = {label: (label,) for label in labels}
        for term in _terms(node.terms, target):
            for reference in term.references():
                if self._is_changed(reference):
                    through = self._explain_reference(reference)
                    label = self._reference(reference)
                    _merge(causes, {root: (label, *chain) for root, chain in through.items()})
        if not causes:
            causes = self._through_ephemeral(unique_id)
        if not causes:
            # Nothing of its own and no parent's column: what a star stands for.
            labels = self._labels(unique_id, old.code, new.code)
            causes = {label: (label,) for label in labels or ["columns of what it reads"]}
        return causes

    def _through_ephemeral(self, unique_id: str) -> dict[str, Chain]:
        """The SQL of ephemeral parents stands in the node's own."""
        causes: dict[str, Chain] = {}
        for parent in self._head.project.parents(unique_id):
            node, before = self._head.nodes.get(parent), self._before(parent)
            if node is None or not self._is_ephemeral(parent):
                continue
            targets = list(self._changed_targets(before, node)) if before else [WHOLE]
            for target in targets:
                label = self._reference(Reference(parent, target))
                through = self._explain(parent, target)
                _merge(causes, {root: (label, *chain) for root, chain in through.items()})
        return causes

    def _is_ephemeral(self, unique_id: str) -> bool:
        config = self._head.project.nodes[unique_id]["config"]
        return bool(config.get("materialized") == "ephemeral")

    def _explain_reference(self, reference: Reference) -> dict[str, Chain]:
        if reference.node in self._head.nodes:
            return self._explain(reference.node, reference.column)
        source = self._head.project.nodes[reference.node]
        cause = f"relation of the source ({source['original_file_path']})"
        return {f"{reference.node}": (cause,)}

    def _changed_targets(self, before: Fingerprint, node: Fingerprint) -> Iterable[str]:
        if before.linked.rows != node.linked.rows:
            yield ROWS
        if before.linked.rest != node.linked.rest:
            yield REST
        for name, value in node.linked.columns:
            if before.linked.named.get(name) != value:
                yield name
        if any(name not in node.linked.named for name in before.linked.named):
            yield WHOLE

    def _is_changed(self, reference: Reference) -> bool:
        former = Reference(self._former.get(reference.node, reference.node), reference.column)
        try:
            return self._base.resolve(former) != self._head.resolve(reference)
        except KeyError:
            return True

    def _before(self, unique_id: str) -> Fingerprint | None:
        return self._base.nodes.get(self._former.get(unique_id, unique_id))

    def _labels(self, unique_id: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
        differ = differing(old, new)
        labels = []
        for key in differ:
            state = self._head if key in new else self._base
            former = unique_id if state is self._head else self._former.get(unique_id, unique_id)
            labels.append(describe(state.project, former, key))
        return list(dict.fromkeys(labels))

    def _name(self, unique_id: str) -> str:
        return display_name(self._head, unique_id)

    def _reference(self, reference: Reference) -> str:
        name = self._name(reference.node)
        if reference.column == ROWS:
            return f"{name} (rows)"
        return name if reference.column in (WHOLE, REST) else f"{name}.{reference.column}"


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The keys of components that differ, sorted."""
    keys = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    # What a view reads matters from one view to the next; a table has no such component.
    return sorted(keys - ({"reads"} if not ("reads" in old and "reads" in new) else set()))


def display_name(state: Fingerprints, unique_id: str) -> str:
    """How people call a node: its name, with the version of a model and the name of a source."""
    node = state.project.nodes[unique_id]
    if node["resource_type"] == "source":
        return f"source {node['source_name']}.{node['name']}"
    version = node.get("version")
    return str(node["name"]) if version is None else f"{node['name']}.v{version}"


def _terms(relation: Relation, target: str) -> tuple[Term, ...]:
    if target == ROWS:
        return (relation.rows,)
    if target == WHOLE:
        return relation.everything()
    if target == REST or target not in dict(relation.columns):
        return () if relation.rest is None else (relation.rest,)
    return (dict(relation.columns)[target],)


def _keys(relation: Relation, target: str) -> list[str]:
    return [term.key for term in _terms(relation, target)]


def _order(chain: Chain) -> tuple[int, Chain]:
    return len(chain), chain


def _merge(causes: dict[str, Chain], more: Mapping[str, Chain]) -> None:
    for root, chain in more.items():
        if root not in causes or len(chain) < len(causes[root]):
            causes[root] = chain
