"""One chain: an environment's life from its first commit, push by push.

What happens is drawn beforehand, as deeds; each has a random generator of its own, so that a chain
can be repeated, and repeated without some of its deeds.
"""

from __future__ import annotations

import os
import random
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from benchmarks import soundness_files, soundness_lists, soundness_settings  # noqa: F401
from benchmarks.history_edits import BREAKING, HISTORY
from benchmarks.history_forms import FORMS, approve
from benchmarks.history_judge import Judge, Verdict
from benchmarks.history_nothing import NotBuiltError, Nothing
from benchmarks.history_site import NAME, Living, Ran, Settled
from benchmarks.history_world import Clock, Content, Whole, differ
from benchmarks.soundness import text_diff
from benchmarks.soundness_edits import EDITS, apply_one
from benchmarks.soundness_hooks import MACROS_OF_HOOKS
from benchmarks.soundness_settings import SETTINGS, load
from benchmarks.soundness_world import LABEL, State
from dbt_orchestration.automation.outcome import Outcome

_ATTEMPTS = 6
# What people do by forms, and how often.
_BY_HAND = {
    "run now": 5,
    "dbt": 5,
    "dbt shows": 2,
    "dbt older": 5,
    "rebuild": 5,
    "resume": 3,
    "roll back": 5,
    "until next push": 3,
    "pause": 2,
}
_WITH_A_PUSH = ("until next push", "pause")
_LEFT_BESIDE = ("__rebuild_", "__dbt_tmp", "__dbt_backup")


@dataclass(frozen=True)
class Deed:
    """One thing that is done.

    Attributes:
        seed: of its random generator.
        edits: numbers of the edits that a push is made of.
    """

    kind: str
    seed: str
    edits: tuple[int, ...] = ()

    def chance(self, *more: int) -> random.Random:
        """A new random generator."""
        return random.Random(":".join([self.seed, *map(str, more)]))


def script(seed: int, chain: int, pushes: int) -> list[Deed]:
    """What is done in one chain."""
    rng = random.Random(f"{seed}:{chain}")
    deeds: list[Deed] = []

    def add(kind: str, edits: int = 0) -> None:
        deeds.append(Deed(kind, f"{seed}:{chain}:{len(deeds)}", tuple(range(edits))))

    for _ in range(pushes):
        kind = rng.choices(["push", "revert", "break", "restart", "nothing"], [100, 12, 12, 7, 4])[
            0
        ]
        add(kind, rng.choices([1, 2, 3], [70, 20, 10])[0] if kind == "push" else 0)
        if rng.random() < 0.1:
            continue  # the next push comes before this one is seen
        if rng.random() < 0.06:
            add("click")
        ends = rng.choices(["settle", "interrupt", "crash"], [88, 6, 6])[0]
        add(ends)
        if (kind == "break" or ends == "interrupt") and rng.random() < 0.5:
            add("retry")
        for kind, chance in (("full build", 0.12), ("tomorrow", 0.05), ("click", 0.06)):
            if rng.random() < chance:
                add(kind)
        for kind, chance in (
            ("some history", 0.3),
            ("approve", 0.4),
            ("drop by form", 0.3),
            ("drop", 0.2),
            ("reload", 0.15),
        ):
            if rng.random() < chance:
                add(kind)
        for kind in rng.choices([*_BY_HAND], [*_BY_HAND.values()], k=rng.choice([0, 1, 1, 2])):
            add(kind, kind in _WITH_A_PUSH)
    add("end")
    return deeds


@dataclass
class Step:
    """What came of one deed.

    Attributes:
        said: what the sensor said at last.
        runs: what each run was to build, what it recreated, and what it said if it failed.
        wrong: what should be otherwise: a node, or what else, and how.
        left_out: nodes that differ and may, and why.
        same: how many nodes were as from nothing.
        seconds: of CPU, by what took them.
    """

    kind: str
    did: list[str] = field(default_factory=list)
    edits: list[str] = field(default_factory=list)
    diff: str = ""
    said: str = ""
    runs: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    same: int = 0
    pushed: int = 0
    settled: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Life:
    """An environment, and what it should be.

    Attributes:
        state: what was pushed last, and ``whole`` the same from nothing; None if it cannot be.
        good: the last state that was whole.
        mend: the last push is to be taken back.
        failing: states of which tests failed, and nothing else.
        without: parts of names of kinds of edits that are not made, and beginnings of paths of
            files that are not there.
    """

    site: Living
    nothing: Nothing
    clock: Clock
    judge: Judge
    state: State
    whole: Whole | None = None
    without: Collection[str] = ()
    good: State = field(init=False)
    commits: list[tuple[str, State]] = field(default_factory=list)
    owned: set[str] = field(default_factory=set)
    prints: Mapping[str, str] = field(default_factory=dict)
    before: tuple[Whole, Content] | None = None
    touched: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    mend: bool = False
    failing: list[State] = field(default_factory=list)
    unsettled: bool = False
    interrupted: bool = False
    step: Step = field(default_factory=lambda: Step(""))

    def __post_init__(self) -> None:
        self.good = self.state
        self.commits.append((self.site.clone.head(), self.state))

    def live(self, deeds: Sequence[Deed]) -> Iterator[Step]:
        """Do all of this, until something is wrong."""
        for deed in deeds:
            self.step = Step(deed.kind)
            try:
                _DEEDS[deed.kind](self, deed)
            except Exception as error:  # whatever it is, it is worth a look
                self.step.wrong["crash"] = f"{type(error).__name__}: {error}"[-2000:]
                self.step.said = traceback.format_exc()[-3000:]
            yield self.step
            if self.step.wrong:
                return

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        started = time.process_time()
        try:
            yield
        finally:
            seconds = self.step.seconds
            seconds[what] = seconds.get(what, 0.0) + time.process_time() - started

    # Pushes

    def push(self, deed: Deed) -> None:
        """Push edits of what was pushed last, or of what was good; nothing if none can be built."""
        base = self.good if self.mend else self.state
        for attempt in range(_ATTEMPTS):
            state, made = base.copy(), list[tuple[str, str]]()
            for number in deed.edits:
                chance = deed.chance(number, attempt)
                among = HISTORY if chance.random() < 0.55 else EDITS
                drawn = [e for e in among if not any(name in e.name for name in self.without)]
                made.append(apply_one(chance, state, drawn))
            if _changes_rows_at_each_run(state) or any(
                path.startswith(tuple(w for w in self.without if w.startswith("models/")))
                for path in state.files
            ):
                continue
            try:
                with self.timed("from nothing"):
                    whole = self.nothing.build(state)
            except NotBuiltError as error:
                self.step.did.append(f"not: {'; '.join(did for _, did in made)}: {_last(error)}")
                continue
            self.step.edits = [kind for kind, _ in made]
            self.step.did += [f"{kind}: {did}" for kind, did in made]
            self.send(state, whole)
            return

    def send(self, state: State, whole: Whole | None, message: str = "") -> None:
        """Push a state."""
        self.step.diff = text_diff(self.state, state)
        self.step.pushed = 1
        self.state, self.whole, self.mend = state, whole, False
        with self.timed("push"):
            sha = self.site.commit(state, message or f"push {len(self.commits)}")
        self.commits.append((sha, state))
        self._take_on(state)

    def _take_on(self, state: State) -> None:
        # A process reads its environment when it starts.
        if any(os.environ.get(name) != value for name, value in state.environment.items()):
            self.site.restart(state.environment)

    def _revert(self, deed: Deed) -> None:
        rng = deed.chance()
        earlier = [(sha, s) for sha, s in self.commits if s.files != self.state.files]
        if not earlier:
            return
        sha, state = rng.choice(earlier)
        state = State(dict(state.files), dict(self.state.environment))
        try:
            with self.timed("from nothing"):
                whole: Whole | None = self.nothing.build(state)
        except NotBuiltError:
            return
        if rng.random() < 0.5:
            self.step.did.append("an earlier state, in a new commit")
            self.send(state, whole)
            return
        self.step.did.append(f"force-pushed {sha[:10]}")
        self.step.diff = text_diff(self.state, state)
        self.step.pushed = 1
        self.site.force_push(sha)
        self.state, self.whole, self.mend = state, whole, False

    def _break(self, deed: Deed) -> None:
        base = self.good if self.mend else self.state
        for attempt in range(_ATTEMPTS):
            state = base.copy()
            kind, did = apply_one(deed.chance(attempt), state, BREAKING)
            try:
                with self.timed("from nothing"):
                    whole: Whole | None = self.nothing.build(state)
            except NotBuiltError as error:
                if "cannot be read" in str(error):
                    continue  # a view, which dbt makes all the same
                whole = None
            if (whole is None) != kind.endswith("a test fails"):
                self.step.edits, self.step.did = [kind], [f"{kind}: {did}"]
                self.send(state, whole)
                return

    def _nothing_new(self) -> None:
        if self.whole is not None and not self.mend:
            self.step.did.append("an empty commit")
            self.send(self.state, self.whole)

    def _restart(self, deed: Deed) -> None:
        rng = deed.chance()
        state = (self.good if self.mend else self.state).copy()
        name = rng.choice([LABEL, "HISTORY_FACTOR", "HISTORY_HIDDEN"])
        state.environment[name] = rng.choice(["a", "b"] if name == LABEL else ["2", "3"])
        try:
            with self.timed("from nothing"):
                whole = self.nothing.build(state)
        except NotBuiltError:
            return
        self.step.did.append(f"restarted with {name}={state.environment[name]}")
        if self.mend or rng.random() < 0.4:
            self.send(state, whole)
        else:
            self.step.diff = text_diff(self.state, state)
            self.step.pushed = 1
            self.state, self.whole = state, whole
            self._take_on(state)

    # What the environment makes of them

    def _settle(self, deed: Deed) -> None:
        if self.mend:
            return  # nothing was pushed since
        after = None if deed.kind == "settle" else deed.chance().randrange(1, 12)
        with self.timed("sensor and runs"):
            settled = self.site.settle(after)
        self._record(settled)
        if settled.said == "interrupted":
            self.interrupted = True
            if deed.kind == "interrupt":
                self.unsettled, self.prints = True, {}
                self.step.did.append("the run was stopped")
                return
            self.step.did.append("the run died, and was started again")
            with self.timed("sensor and runs"):
                resumed = self.site.go_on()
                self.note(resumed)
                settled = self.site.settle()
            self._record(settled)
            settled = replace(settled, runs=[resumed, *settled.runs])
        self._check(settled)

    def _record(self, settled: Settled) -> None:
        self.step.said = settled.said
        for ran in settled.runs:
            self.note(ran)
            self._look_for_needless(ran)

    def note(self, ran: Ran) -> None:
        """Write down what a run has built."""
        self.touched |= ran.asked | ran.built
        text = f"{'built' if ran.success else 'FAILED'} {', '.join(sorted(ran.built))}"
        if ran.rebuilt:
            text += f"; anew: {', '.join(sorted(ran.rebuilt))}"
        if ran.asked - ran.built:
            text += f"; not built: {', '.join(sorted(ran.asked - ran.built))}"
        self.step.runs.append(f"{text}; {ran.failure}" if ran.failure else text)

    def _look_for_needless(self, ran: Ran) -> None:
        dbt, revision = self.site.dbt, self.site.revision
        if not self.prints or dbt is None or revision is None:
            return
        ids = {"/".join(key.path): u for u, key in dbt.nodes.items()}
        for name in ran.asked & ids.keys():
            u = ids[name]
            same = self.prints.get(u) == revision.fingerprints.get(u)
            if same and u not in self.waiting:
                self.step.wrong[f"needless {u}"] = "built again although nothing of it has changed"

    def _check(self, settled: Settled) -> None:
        self.step.settled = 1
        if settled.endless:
            self.step.wrong["endless"] = settled.said
        elif settled.is_good:
            self._check_whole(settled)
        else:
            self._check_failed(settled)

    def _check_whole(self, settled: Settled) -> None:
        assert settled.due is not None
        if self.whole is None:
            if not settled.due.waiting:
                self.step.wrong["broken"] = "a commit that cannot be built is said to be built"
            self.mend = True
            return
        waiting = set(settled.due.waiting)
        with self.timed("compare"):
            found = self.site.content(self.whole.nodes)
            verdict = self.judge.compare(self.whole, found, waiting)
            self._take(verdict)
            self._check_waiting(waiting, found)
            relations = self.site.relations()
        left = [r for r in relations if any(mark in r for mark in _LEFT_BESIDE)]
        if left and not self.interrupted:
            self.step.wrong["left behind"] = ", ".join(sorted(left))
        self.owned |= {node.relation for node in self.whole.nodes.values()}
        self.before, self.touched, self.waiting = (self.whole, found), set(), waiting
        self.unsettled, self.good = False, self.state
        if self.site.revision is not None:
            self.prints = dict(self.site.revision.fingerprints)

    def _take(self, verdict: Verdict) -> None:
        self.step.same += verdict.same
        self.step.left_out |= verdict.left_out
        self.step.wrong |= verdict.wrong

    def _check_waiting(self, waiting: set[str], found: Content) -> None:
        """What waits must not have been built, unless somebody built it."""
        dbt = self.site.dbt
        if self.before is None or dbt is None or self.whole is None:
            return
        whole, before = self.before
        for u in waiting & before.keys():
            same_name = whole.nodes[u].relation == self.whole.nodes[u].relation
            how = differ(before[u], found[u])
            is_view = whole.nodes[u].config["materialized"] == "view"
            if same_name and how and "/".join(dbt.keys[u].path) not in self.touched and not is_view:
                self.step.wrong[u] = f"it waits, and yet has changed: {how}"

    def _check_failed(self, settled: Settled) -> None:
        self.prints = {}
        failed = {name: kind for ran in settled.runs for name, kind in ran.failed.items()}
        tests_only = failed and set(failed.values()) <= {"test", "unit_test"}
        if tests_only:
            self.failing.append(self.state)
        # A roll back to such a commit is tried once: it has been.
        known = not failed and self.state in self.failing
        if not (self.whole is None or tests_only or known or self.unsettled):
            self._check_failure(settled, failed)
        self.check_unchanged()
        self.mend = not self.unsettled
        if all(f.outcome is not Outcome.TRIED for f in settled.found) and settled.prepared:
            self.step.wrong["said"] = "neither due nor done"

    def _check_failure(self, settled: Settled, failed: Mapping[str, str]) -> None:
        """What can be built from nothing should be built, if dbt can do it in place."""
        assert self.whole is not None
        if not settled.prepared:
            self.step.wrong["not prepared"] = settled.said
            return
        said = "; ".join(ran.failure for ran in settled.runs if not ran.success)
        ids = [u for u, node in self.whole.nodes.items() if node.name in failed]
        ids = [u for u in ids if failed[self.whole.nodes[u].name] == self.whole.nodes[u].kind]
        if not ids:
            self.step.wrong["failed"] = said or settled.said
            return
        with self.timed("compare"):
            database = self.site.settings.duckdb_path
            try:
                self.nothing.again(self.whole, database, ids)
            except NotBuiltError as error:
                self.step.left_out["run"] = f"dbt cannot do it in place: {_last(error)}"
            else:
                self.step.wrong["failed"] = f"a full refresh does it: {said}"

    def check_unchanged(self) -> None:
        """What no run was to build is as it was."""
        if self.before is None:
            return
        whole, before = self.before
        dbt = self.site.dbt
        with self.timed("compare"):
            found = self.site.content(whole.nodes)
        views = {u for u, node in whole.nodes.items() if node.config["materialized"] == "view"}
        for u in before.keys() - views:
            key = dbt.keys.get(u) if dbt else None
            if key and "/".join(key.path) in self.touched:
                continue
            if how := differ(before[u], found[u]):
                moved = any(n.relation == whole.nodes[u].relation for n in self._others(u))
                if not moved:
                    self.step.wrong[u] = f"no run was to build it, and yet it has changed: {how}"

    def _others(self, unique_id: str) -> Iterator[Any]:
        """Nodes that stand under another's name now."""
        for u, node in (self.whole.nodes if self.whole else {}).items():
            if u != unique_id:
                yield node

    # What people do

    def _click(self, deed: Deed) -> None:
        rng = deed.chance()
        if NAME not in self.site.loaded:
            return
        names = rng.sample(self.site.assets(), rng.choice([1, 1, 2, 5]))
        with self.timed("sensor and runs"):
            ran = self.site.click(names)
        self.step.did.append(f"materialized {', '.join(names)}")
        self.note(ran)
        if self.is_settled:
            self.settle_again()

    def _full_build(self) -> None:
        if not self.is_settled:
            return
        with self.timed("sensor and runs"):
            ran = self.site.full_build()
        self.note(ran)
        if not ran.success:
            self.check_full_build(ran)
        self.settle_again()

    def check_full_build(self, ran: Ran) -> None:
        """Look at a daily build that has failed."""
        if set(ran.failed.values()) <= {"test", "unit_test"} and ran.failed:
            return
        assert self.whole is not None
        try:
            # All of them: what fails may be what reads a model that is another one the second time.
            every = self.whole.nodes
            self.nothing.again(self.whole, self.whole.database, every, full_refresh=False)
        except NotBuiltError:
            self.step.left_out["run"] = "dbt cannot build it a second time"
        else:
            self.step.wrong["full build"] = ran.failure

    def _tomorrow(self) -> None:
        if not self.is_settled:
            return
        self.clock.now += timedelta(days=1)
        with self.timed("from nothing"):
            self.whole = self.nothing.build(self.state)
        self.site.restart({})
        self._full_build()

    def settle(self) -> Settled:
        """Let the sensor come to rest."""
        with self.timed("sensor and runs"):
            settled = self.site.settle()
        self._record(settled)
        return settled

    def settle_again(self, *before: Ran) -> None:
        """Let the sensor come to rest, after runs that it did not ask for, and look at it all."""
        settled = self.settle()
        self._check(replace(settled, runs=[*before, *settled.runs]))

    def _reload(self) -> None:
        if self.is_settled:
            self.site.cursors.clear()
            self.site.restart({})
            self.settle_again()

    @property
    def is_settled(self) -> bool:
        """Whether what was pushed last has been built."""
        return bool(
            self.before
            and not self.mend
            and not self.unsettled
            and self.whole is not None
            and self.before[0].state == self.state
        )

    def _end(self) -> None:
        """Whatever happened: a last good commit mends all."""
        if not self.is_settled:
            with self.timed("from nothing"):
                whole = self.nothing.build(self.good)
            self.unsettled = False
            self.send(self.good, whole, "a last one")
            self.settle_again()
            if self.mend and not self.step.wrong:
                self.step.did.append("the last good commit cannot be built in place")
        if self.is_settled and self.waiting and not self.step.wrong:
            approve(self)


_DEEDS: Mapping[str, Callable[[Life, Deed], None]] = {
    "push": Life.push,
    "revert": Life._revert,
    "break": Life._break,
    "nothing": lambda life, _: life._nothing_new(),
    "restart": Life._restart,
    "settle": Life._settle,
    "interrupt": Life._settle,
    "crash": Life._settle,
    "click": Life._click,
    "full build": lambda life, _: life._full_build(),
    "tomorrow": lambda life, _: life._tomorrow(),
    "reload": lambda life, _: life._reload(),
    **FORMS,
    "end": lambda life, _: life._end(),
}


def _changes_rows_at_each_run(state: State) -> bool:
    """Hooks round the whole run, of which one run is not as good as two."""
    settings = load(state, SETTINGS)
    hooks = [*settings.get("on-run-start", []), *settings.get("on-run-end", [])]
    if any("sent()" in hook for hook in hooks):
        hooks.append(state.files[MACROS_OF_HOOKS])
    return any("update " in hook for hook in hooks)


def _last(error: Exception) -> str:
    return " ".join(str(error).split())[-200:]
