"""What people do with forms in a chain: each is launched, what it asks for is run, and judged.

Whatever they order, the environment is what the newest commit says afterwards, or the held one. Not
drawn is what is documented to leave something else: a run with ``vars`` leaves what these say, and
``new_partitions_only`` leaves rows of older code.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.history_nothing import NotBuiltError
from benchmarks.history_site import Ran
from benchmarks.history_world import Node, Whole
from benchmarks.soundness_world import State

if TYPE_CHECKING:
    from benchmarks.history_chain import Deed, Life

# A forced push has taken it out of the branch.
_NOT_IN_BRANCH = ("none of the last",)
_NOTHING_FAILED = ("no build of prod has failed", "was built since", "has succeeded")
_UNKNOWN_NOW = ("is not in the newest commit", "has other partitions", *_NOT_IN_BRANCH)
_SELECTIONS = ("{}", "{}", "{}+", "+{}")


def _order(life: Life, form: str, may_say: Collection[str] = (), **fields: Any) -> bool:
    """Launch a form; whether it was taken. It has to be, unless it refuses with some of this."""
    said = ", ".join(f"{name}={value!r}" for name, value in fields.items() if name != "reason")
    life.step.did.append(f"{form} {said}".strip())
    with life.timed("sensor and runs"):
        refused = life.site.order(form, **fields)
    if refused:
        life.step.did.append(refused)
        if not any(words in refused for words in may_say):
            life.step.wrong[form] = refused
    return not refused


def _asked(life: Life) -> Sequence[Ran]:
    """Run what forms ask for."""
    with life.timed("sensor and runs"):
        runs = [life.site.start(request) for request in life.site.asked()]
    for ran in runs:
        life.note(ran)
    return runs


def _build(life: Life, form: str, may_say: Collection[str] = (), **fields: Any) -> None:
    """Launch a form that asks for one run, and let it run: nothing is otherwise afterwards."""
    if not _order(life, form, may_say, reason="whatever", **fields):
        return
    runs = _asked(life)
    if len(runs) != 1:
        life.step.wrong[form] = f"has asked for {len(runs)} runs"
    for ran in runs:
        if not ran.success:
            _look_at_failure(life, ran, full_refresh=fields.get("full_refresh", False))
    life.settle_again(*runs)


def _look_at_failure(life: Life, ran: Ran, *, full_refresh: bool) -> None:
    """What dbt can build once more a run can, too."""
    if ran.failed and set(ran.failed.values()) <= {"test", "unit_test"} and ran.asked:
        return
    assert life.whole is not None
    assert life.site.dbt is not None
    paths = {"/".join(key.path): u for u, key in life.site.dbt.nodes.items()}
    ids = [paths[name] for name in ran.asked]
    try:
        for database in (life.whole.database, life.site.settings.duckdb_path):
            life.nothing.again(life.whole, database, ids, full_refresh=full_refresh)
    except NotBuiltError:
        life.step.left_out["run"] = "dbt cannot build it a second time"
    else:
        life.step.wrong["run"] = ran.failure


def _selection(rng: random.Random, nodes: Collection[Node]) -> str:
    names = sorted({node.name for node in nodes})
    chosen = rng.sample(names, min(rng.choice([1, 1, 2]), len(names)))
    return " ".join(rng.choice(_SELECTIONS).format(name) for name in chosen)


def _run_now(life: Life, deed: Deed) -> None:
    rng = deed.chance()
    if life.is_settled and life.whole:
        fields: dict[str, Any] = {"select": _selection(rng, life.whole.nodes.values())}
        if rng.random() < 0.4:
            fields |= {"full_refresh": True, "dry_run": False}
        _build(life, "run_now", exclude_tests=rng.random() < 0.3, **fields)


def _dbt(life: Life, deed: Deed) -> None:
    rng = deed.chance()
    if not life.is_settled or life.whole is None:
        return
    command = rng.choice(["build", "build", "run", "run", "seed", "snapshot", "test"])
    kind = {"run": "model"}.get(command, command)
    nodes = [node for node in life.whole.nodes.values() if kind in (node.kind, "build", "test")]
    if not nodes:
        return
    fields: dict[str, Any] = {"command": command, "select": _selection(rng, nodes)}
    if command in ("build", "run", "seed") and rng.random() < 0.4:
        fields |= {"full_refresh": True, "dry_run": False}
    _build(life, "dbt", ["there is no test on"] if command == "test" else (), **fields)


def _dbt_shows(life: Life, deed: Deed) -> None:
    """Commands that read change nothing."""
    rng = deed.chance()
    if not life.is_settled or life.whole is None:
        return
    relations = life.site.relations()
    select = rng.choice(sorted({n.name for n in life.whole.nodes.values() if n.kind == "model"}))
    command = rng.choice(["compile", "show", "list"])
    _order(life, "dbt", command=command, select=select)
    if _asked(life):
        life.step.wrong["dbt"] = f"dbt {command} has asked for a run"
    life.check_unchanged()
    if changed := relations ^ life.site.relations():
        life.step.wrong["relations"] = ", ".join(sorted(changed))
    life.settle_again()


def _earlier(life: Life, rng: random.Random) -> tuple[str, Whole] | None:
    """An earlier commit, and what it is from nothing."""
    earlier = [(sha, s) for sha, s in life.commits if s.files != life.state.files]
    if not life.is_settled or not earlier:
        return None
    sha, then = rng.choice(earlier)
    try:
        with life.timed("from nothing"):
            state = State(dict(then.files), dict(life.state.environment))
            return sha, life.nothing.build(state)
    except NotBuiltError:
        return None


@contextmanager
def _paused(life: Life) -> Iterator[None]:
    """The sensor starts nothing meanwhile."""
    _order(life, "pause", reason="whatever")
    yield
    if life.settle().runs:
        life.step.wrong["paused"] = "and yet a run was started"
    life.check_unchanged()
    _order(life, "resume")


def _pause(life: Life, deed: Deed) -> None:
    if life.is_settled:
        with _paused(life):
            life.push(deed)
        life.settle_again()


def _dbt_older(life: Life, deed: Deed) -> None:
    """Nodes as an earlier commit has them: they are built back."""
    rng = deed.chance()
    if found := _earlier(life, rng):
        sha, then = found
        fields: dict[str, Any] = {"select": _selection(rng, then.nodes.values()), "commit": sha}
        if rng.random() < 0.3:
            fields |= {"full_refresh": True, "dry_run": False}
        with _paused(life):
            if _order(life, "dbt", _UNKNOWN_NOW, command="build", reason="whatever", **fields):
                if not _asked(life):
                    life.step.wrong["dbt"] = "has asked for no run"
                life.prints = {}  # what was built is built again
        life.settle_again()


def _retry(life: Life) -> None:
    """After a push that failed, or whose run was stopped: it fails again, or all is well."""
    if (life.mend or life.unsettled) and _order(
        life, "dbt", _NOTHING_FAILED, command="retry", reason="whatever"
    ):
        runs = _asked(life)
        if not runs:
            life.step.wrong["retry"] = "has asked for no run"
        life.unsettled = False
        life.settle_again(*runs)


def _rebuild(life: Life, deed: Deed) -> None:
    rng = deed.chance()
    if not life.is_settled or life.whole is None:
        return
    nodes = [node for _, node in sorted(life.whole.nodes.items()) if node.kind != "snapshot"]
    partitioned = [node for node in nodes if node.partitions]
    node = rng.choice(partitioned if partitioned and rng.random() < 0.6 else nodes)
    fields: dict[str, Any] = {"model": node.unique_id, "include_downstream": rng.random() < 0.5}
    if rng.random() < 0.3:
        fields["full_refresh"] = True
    elif node.partitions:
        definition = node.partitions.definition
        keys = definition.get_partition_keys()
        ends = sorted(rng.choice(range(len(keys))) for _ in range(2)) if keys else ()
        for field, place in zip(("since", "until"), ends, strict=False):
            if rng.random() < 0.8:
                start = definition.time_window_for_partition_key(keys[place]).start
                fields[field] = start.strftime("%Y-%m-%dT%H:%M:%S")
    _build(life, "rebuild", ["has no partition yet"], dry_run=False, **fields)


def _resume(life: Life, deed: Deed) -> None:
    """Go on with a daily build that was stopped, or that fails."""
    if not life.is_settled:
        return
    with life.timed("sensor and runs"):
        ran = life.site.full_build(deed.chance().randrange(1, 40))
    life.note(ran)
    if ran.interrupted:
        life.step.did.append("the daily build was stopped")
        life.interrupted, life.prints = True, {}
    elif not ran.success:
        life.check_full_build(ran)
    _order(life, "resume_daily_build")
    runs = _asked(life)
    if not runs and ran.asked - ran.built:
        life.step.wrong["resume"] = "not all was built, and yet it does not go on"
    elif all(each.success for each in runs):
        _order(life, "resume_daily_build")
        if _asked(life):
            life.step.wrong["resume"] = "all was built, and yet it goes on"
    life.settle_again(*runs)


def approve(life: Life) -> None:
    """Let all history that waits be rebuilt."""
    if life.waiting and life.is_settled:
        _order(life, "rebuild_history", reason="so", dry_run=False)
        life.settle_again()
        if life.waiting:
            life.step.wrong["waiting"] = f"approved, and waits: {sorted(life.waiting)}"


def _some_history(life: Life, deed: Deed) -> None:
    """Let some of the history that waits be rebuilt."""
    rng, due = deed.chance(), life.site.due()
    if not life.is_settled or due is None or not due.asked:
        return
    chosen = rng.sample(sorted(due.asked), rng.randint(1, len(due.asked)))
    _order(life, "rebuild_history", models=chosen, reason="so", dry_run=False)
    waited = set(life.waiting)
    life.settle_again()
    if wrong := {*chosen} & life.waiting or life.waiting - waited:
        life.step.wrong["waiting"] = f"waits all the same, or only now: {sorted(wrong)}"


def _orphans(life: Life) -> Collection[str]:
    """Relations that no node has any more."""
    if not life.is_settled or life.whole is None:
        return ()
    now = {node.relation for node in life.whole.nodes.values()}
    return sorted((life.owned - now) & life.site.relations())


def _drop(life: Life) -> None:
    """Somebody drops them with SQL."""
    if orphans := _orphans(life):
        life.step.did.append(f"dropped {', '.join(orphans)}")
        for relation in orphans:
            life.site.forget(relation)
        life.settle_again()


def _drop_by_form(life: Life) -> None:
    """One by one: of some the form says why they stay."""
    orphans = _orphans(life)
    for relation in orphans:
        fields = {"names": [relation], "reason": "whatever", "dry_run": False}
        if (
            _order(life, "drop_orphans", ["is not dropped here"], **fields)
            and relation in life.site.relations()
        ):
            life.step.wrong[relation] = "the form has dropped it, and it is there"
    if orphans:
        life.settle_again()


def _held(life: Life, rng: random.Random, until: str) -> bool:
    """Roll back to an earlier commit; whether the environment is held there."""
    found = _earlier(life, rng)
    fields = {"reason": "whatever", "dry_run": False, "until": until}
    if not found or not _order(life, "roll_back", _NOT_IN_BRANCH, commit=found[0], **fields):
        return False
    life.state, life.whole = found[1].state, found[1]
    life.settle_again()
    return not life.step.wrong


def _roll_back(life: Life, deed: Deed) -> None:
    """To an earlier commit, and forward again; half of the time after another push."""
    rng, head = deed.chance(), (life.state, life.whole, life.good)
    if _held(life, rng, "released"):
        if life.is_settled and rng.random() < 0.5:
            life.step.did.append("and pushed")
            life.site.commit(head[0], "while it is held")
            life.settle_again()
        _order(life, "roll_forward")
        (life.state, life.whole, life.good), life.mend = head, False
        life.settle_again()


def _until_next_push(life: Life, deed: Deed) -> None:
    """To an earlier commit, until the branch has another one."""
    rng, head = deed.chance(), (life.state, life.whole, life.good)
    if _held(life, rng, "next_push"):
        (life.state, life.whole, life.good), life.mend = head, False
        life.push(deed)
        if not life.step.pushed:
            life.send(head[0], head[1])
        life.settle_again()


FORMS: Mapping[str, Callable[[Life, Deed], None]] = {
    "run now": _run_now,
    "dbt": _dbt,
    "dbt shows": _dbt_shows,
    "dbt older": _dbt_older,
    "retry": lambda life, _: _retry(life),
    "rebuild": _rebuild,
    "resume": _resume,
    "approve": lambda life, _: approve(life),
    "some history": _some_history,
    "drop": lambda life, _: _drop(life),
    "drop by form": lambda life, _: _drop_by_form(life),
    "roll back": _roll_back,
    "until next push": _until_next_push,
    "pause": _pause,
}
