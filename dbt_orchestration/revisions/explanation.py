"""Why nodes of a revision differ from what was recorded when they were built.

What was recorded is a fingerprint. Whose it is, and so what has changed since, is told by the
revisions that were kept: the node's plan from one that has that fingerprint to the one to build.
Both are fingerprinted again, so that an upgrade of dbt, sqlglot or the change engine is no change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import orjson

from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.materializations import is_updated_in_place, own_materializations
from dbt_orchestration.changes.merging.models import why_alone
from dbt_orchestration.changes.plan import DueNode, diff
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.dbt.scratch import write_whole
from dbt_orchestration.revisions.analyse import Analyst
from dbt_orchestration.revisions.commits import prepare_again
from dbt_orchestration.revisions.kept import record_of, revisions_home, revisions_in
from dbt_orchestration.settings.models import Settings

# Stands in what was recorded of a node between its fingerprint and a digest of what above it was
# not up to date when it was built.
BEHIND = "."
# Ends it if some of its partitions failed.
PARTIAL = f"{BEHIND}partial"
# Ends it if its table was to be rebuilt, and only added to.
WAITING = f"{BEHIND}waiting"
# Ends it if what a run left of it is not known.
STOPPED = f"{BEHIND}stopped"

# A unique id, and the fingerprint that it was built with.
Recorded = tuple[str, str]


@dataclass(frozen=True)
class Explanation:
    """What has become of a node since it was built.

    Attributes:
        recorded: the fingerprint it was built with.
        due: False if it is the same, and only computed in another way now.
        action: ``build``, ``partitions`` or ``full_refresh``: see ``changes.actions``.
        changes: what is another one: ``rows``, ``column_added cents``, ``config unique_key`` …
        reason: the chain from the node to what was edited.
    """

    recorded: str
    due: bool
    action: str
    changes: list[str]
    reason: str


def read_explanations(
    settings: Settings, environment: str, digest: str
) -> Mapping[Recorded, Explanation]:
    """What was explained of a revision so far."""
    try:
        content = orjson.loads(_path(settings, environment, digest).read_bytes())
        return {(unique_id, why["recorded"]): Explanation(**why) for unique_id, why in content}
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # not there, not whole, or of another version


def explain(
    settings: Settings, environment: str, head: Revision, recorded: Collection[Recorded]
) -> None:
    """Explain every node of ``head`` that was recorded with another fingerprint, and keep that."""
    now = head.fingerprints
    differ = {(u, own) for u, value in recorded if now.get(u, own := own_of(value)) != own}
    known = dict(read_explanations(settings, environment, head.digest))
    if missing := differ - known.keys():
        known |= _Explaining(settings, environment, head).all(missing)
        content = [(u, asdict(why)) for (u, _), why in known.items()]
        write_whole(_path(settings, environment, head.digest), content)


def _path(settings: Settings, environment: str, digest: str) -> Path:
    return revisions_home(settings, environment) / f"{digest}.why.json"


class _Explaining:
    def __init__(self, settings: Settings, environment: str, head: Revision) -> None:
        self._settings = settings
        self._environment = environment
        self._head = head
        self._home = revisions_home(settings, environment)
        self._analyst = Analyst(self._home)

    def all(self, recorded: Collection[Recorded]) -> dict[Recorded, Explanation]:
        """One explanation for each, from as few revisions as it takes."""
        waiting, found = set(recorded), dict[Recorded, Explanation]()
        kept = {r.digest: r for r in revisions_in(self._home)}
        head: Fingerprints | None = None
        while waiting and kept:
            knows = Counter(
                {
                    digest: sum(r.fingerprints.get(u) == v for u, v in waiting)
                    for digest, r in kept.items()
                }
            )
            [(digest, count)] = knows.most_common(1)
            base = kept.pop(digest)
            if not count:
                break
            head = head or self._fingerprints(self._head)
            known = {(u, v) for u, v in waiting if base.fingerprints.get(u) == v}
            found |= self._from(base, head, known)
            waiting -= found.keys()
        self._analyst.keep()
        return {**found, **{(u, value): unknown(self._head, u, value) for u, value in waiting}}

    def _from(
        self, base: Revision, head: Fingerprints, recorded: Collection[Recorded]
    ) -> dict[Recorded, Explanation]:
        try:
            again = prepare_again(self._settings, self._environment, base)
        except PrepareError:
            return {}  # it did parse once; this dbt says no
        old = self._fingerprints(again)
        planned = diff(old, head, partial(_alone, (base, self._head)))
        due = {node.unique_id: node for node in planned.due}
        found: dict[Recorded, Explanation] = {}
        for u, value in recorded:
            if u in due:
                found[u, value] = _why(value, due[u])
            elif u in old.nodes and old.nodes[u].value != head.nodes[u].value:
                # The plan has seen it.
                found[u, value] = Explanation(value, False, "build", [], "")
            elif record_of(base)["made_by"] == record_of(self._head)["made_by"]:
                # Nothing of the project, and nothing of how fingerprints are made.
                found[u, value] = unknown(self._head, u, value, _other_settings(base, self._head))
            else:
                found[u, value] = Explanation(value, False, "build", [], "")
        return found

    def _fingerprints(self, revision: Revision) -> Fingerprints:
        target = DbtTarget.of(self._settings, self._environment, revision.project_dir)
        return self._analyst.fingerprints(revision, target)


def _other_settings(base: Revision, head: Revision) -> str:
    """What else than the project is another one."""
    old, new = base.facts["profile"], head.facts["profile"]
    differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if not differ:
        return "the environment or the profile is another one"
    return f"{', '.join(differ)} of the profile's target"


def own_of(recorded: str) -> str:
    """The fingerprint in what was recorded, without what is said of the build."""
    return recorded.partition(BEHIND)[0]


def what_became(
    revision: Revision, unique_id: str, recorded: str, known: Mapping[Recorded, Explanation]
) -> Explanation:
    """What has become of a node that was recorded otherwise than the revision has it.

    Args:
        known: what was explained of fingerprints. What is not there counts as changed.
    """
    own = own_of(recorded)
    if own != revision.fingerprints[unique_id]:
        why = known.get((unique_id, own)) or unknown(revision, unique_id, own)
        if own == recorded:
            return why
        if why.due and not recorded.endswith((WAITING, STOPPED)):
            return replace(why, recorded=recorded)
    return _not_as_it_should_be(revision, unique_id, recorded)


def _not_as_it_should_be(revision: Revision, unique_id: str, recorded: str) -> Explanation:
    """A node that has to be built again, also by the same code."""
    why = "built while something above it was not up to date"
    if recorded.endswith(PARTIAL):
        why = "not all of its partitions were built"
    elif recorded.endswith(WAITING):
        why = "its table was to be rebuilt, and that waited for a person"
    elif recorded.endswith(STOPPED):
        why = "a run was stopped, or failed, while it built this"
    in_place = recorded.endswith(PARTIAL)
    if not in_place and not recorded.endswith((WAITING, STOPPED)):
        config = revision.manifest["nodes"][unique_id]["config"]
        microbatch = config.get("incremental_strategy") == "microbatch"
        in_place = microbatch and not _alone((revision,), unique_id)
    return unknown(revision, unique_id, recorded, why, in_place=in_place)


def unknown(
    revision: Revision,
    unique_id: str,
    recorded: str,
    reason: str = "built by a revision that is not kept",
    *,
    in_place: bool = False,
) -> Explanation:
    """A node of which only this is known: that it was built with another fingerprint.

    Args:
        in_place: its table was made by this code, so that its partitions can be rebuilt in it.
    """
    manifest = revision.manifest
    node = manifest["nodes"][unique_id]
    kept = HistoryPolicy.of(node)
    own = own_materializations(manifest)
    action = "build"
    if is_updated_in_place(node, own) and not kept.forward_only:
        action = "partitions" if kept.partitions and in_place else "full_refresh"
    return Explanation(recorded, True, action, [], reason)


def _alone(revisions: Collection[Revision], unique_id: str) -> str:
    """Why the partitions of a microbatch model cannot be rebuilt where they are; "" if they can.

    What one of the revisions built may lie outside of its partition, and would stay.
    """
    for revision in revisions:
        node = revision.manifest["nodes"].get(unique_id)
        microbatch = node and node["config"].get("incremental_strategy") == "microbatch"
        if node and microbatch and (why := why_alone(node, revision.why_unmergeable(unique_id))):
            return why
    return ""


def _why(recorded: str, due: DueNode) -> Explanation:
    changes = [str(change) for change in due.changes]
    reason = " ← ".join(due.reasons[0])
    return Explanation(
        recorded, True, due.action, changes, "; ".join(filter(None, (reason, due.note)))
    )
