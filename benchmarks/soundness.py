"""Does the change engine ever miss a node whose content changed? Edits at random, then builds.

Each trial edits a copy of ``soundness_project``, asks the engine for the plan from the project as
it was, builds the edited project from nothing, and compares every relation. A relation that is
another one (columns, types, rows, or whether it is there) and was not due is a **miss**: there must
be none. One that was due and is the same is **needless**. Plans back from the edited project are
checked for misses too. dbt's own ``state:modified+`` is measured on the same edits.

Ignored are the order of rows, what snapshots say of the time of the run, and floats after nine
digits.
"""

from __future__ import annotations

import difflib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import duckdb
import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import (  # noqa: F401
    soundness_files,
    soundness_hooks,
    soundness_lists,
    soundness_settings,
)
from benchmarks.soundness_edits import apply_one
from benchmarks.soundness_world import State, Workshop, World, differences
from dbt_orchestration.changes.plan import Plan, diff
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.parse import PrepareError

_SHARED_MEMORY = Path("/dev/shm")
# How often fingerprints are made once more, with nothing taken over from the state before.
_AGAIN = 4


@dataclass
class Trial:
    """What one edit, or a few together, led to.

    Attributes:
        error: why dbt could not parse or build the result; "" if it could.
        crash: likewise, if the engine raised something it should not have.
        misses: direction, node and what is different about it.
        needless: node, and why the plan says it is due.
        differ: nodes whose content is another one; ``due`` and ``dbt`` are what was said of them.
    """

    seed: int
    iteration: int
    kinds: list[str]
    did: list[str]
    error: str = ""
    crash: str = ""
    nodes: int = 0
    differ: dict[str, str] = field(default_factory=dict)
    due: list[str] = field(default_factory=list)
    dbt: list[str] = field(default_factory=list)
    misses: list[tuple[str, str, str]] = field(default_factory=list)
    needless: dict[str, str] = field(default_factory=dict)
    diff: str = ""
    seconds: float = 0.0


@dataclass
class Score:
    """How well a list of nodes foretells which differ."""

    differ: int = 0
    said: int = 0
    right: int = 0

    def add(self, said: set[str], differ: set[str]) -> None:
        self.differ += len(differ)
        self.said += len(said)
        self.right += len(said & differ)

    @property
    def recall(self) -> float:
        return self.right / self.differ if self.differ else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else 1.0


def edited(base: State, seed: int, iteration: int) -> tuple[State, list[tuple[str, str]]]:
    """The state of one trial, and the edits that made it: the same for the same numbers."""
    rng = random.Random(f"{seed}:{iteration}")
    state = base.copy()
    many = rng.choices([1, 2, 3], [75, 18, 7])[0]
    return state, [apply_one(rng, state) for _ in range(many)]


def run_trial(workshop: Workshop, seed: int, iteration: int) -> Trial:
    """Edit, plan, build, compare."""
    started = time.monotonic()
    base = workshop.base
    state, edits = edited(base.state, seed, iteration)
    trial = Trial(seed, iteration, [kind for kind, _ in edits], [did for _, did in edits])
    try:
        head = workshop.build(state, keep="head")
    except (PrepareError, DbtError, duckdb.Error) as error:
        trial.error = str(error)[-600:]
        return trial
    except Exception as error:
        trial.error = trial.crash = repr(error)[-600:]
        trial.diff = text_diff(base.state, state)
        return trial
    forward, back = diff(base.prints, head.prints), diff(head.prints, base.prints)
    due = {node.unique_id for node in forward.due}
    trial.differ = differences(base, head)
    trial.nodes = len(head.names)
    trial.due, trial.dbt = sorted(due), sorted(workshop.dbt_says(head))
    trial.misses = [
        *(("there", u, why) for u, why in trial.differ.items() if u not in due),
        *(("back", u, why) for u, why in _missed(back, head, base)),
    ]
    if iteration % _AGAIN == 0:
        trial.misses += [("again", u, "another fingerprint") for u in _others(workshop, head)]
    trial.needless = {
        node.unique_id: f"{'/'.join(c.kind for c in node.changes)} ← {' ← '.join(node.reasons[0])}"
        for node in forward.due
        if node.unique_id not in trial.differ
    }
    if trial.misses:
        trial.diff = text_diff(base.state, state)
    trial.seconds = time.monotonic() - started
    return trial


def _missed(made: Plan, old: World, new: World) -> Iterator[tuple[str, str]]:
    due = {node.unique_id for node in made.due}
    return ((u, why) for u, why in differences(old, new).items() if u not in due)


def _others(workshop: Workshop, world: World) -> list[str]:
    again = workshop.again(world).nodes
    return [u for u, node in world.prints.nodes.items() if again[u].value != node.value]


def text_diff(old: State, new: State) -> str:
    lines: list[str] = []
    for path in sorted(old.files.keys() | new.files.keys()):
        before, after = (_shown(path, state.files.get(path, "")) for state in (old, new))
        lines += difflib.unified_diff(
            before.splitlines(), after.splitlines(), path, path, lineterm="", n=1
        )
    if new.environment != old.environment:
        lines.append(f"environment: {new.environment}")
    return "\n".join(lines)


def _shown(path: str, text: str) -> str:
    # Edits write YAML anew; what they changed is what matters.
    return yaml.safe_dump(yaml.safe_load(text)) if path.endswith(".yml") and text else text


# Trials, in processes of their own: dbt keeps its state in globals.

_workshop: Workshop | None = None


def _open_workshop(folder: str, level1: bool) -> None:
    global _workshop  # noqa: PLW0603
    root = Path(tempfile.mkdtemp(dir=folder))
    _workshop = Workshop(root, level1)


def _trial(seed: int, iteration: int) -> Trial:
    assert _workshop is not None
    return run_trial(_workshop, seed, iteration)


def trials(
    edits: int, seed: int, jobs: int = 1, seconds: float | None = None, level1: bool = False
) -> Iterator[Trial]:
    """Trials until ``edits`` of them were valid, or the time is over."""
    until = time.monotonic() + (seconds or float("inf"))
    numbers = count()
    valid = 0
    with (
        tempfile.TemporaryDirectory(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None) as top,
        ProcessPoolExecutor(jobs, get_context("spawn"), _open_workshop, (top, level1)) as pool,
    ):
        running: set[Future[Trial]] = set()
        while valid < edits and time.monotonic() < until:
            while len(running) < min(jobs + 1, edits - valid):
                running.add(pool.submit(_trial, seed, next(numbers)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                trial = future.result()
                valid += not trial.error
                yield trial
        for future in running:
            future.cancel()


# What people mostly commit, by the beginnings of kinds of edits.
_DOCUMENTS = ("cosmetic: ", "properties: cosmetic", "a name in title case", "sql: printed anew")
_ONE_MODEL = ("token: ", "sql: ", "jinja: ref", "jinja: inline", "config: ")


def group_of(kinds: Sequence[str]) -> str:
    """What sort of commit it is."""
    more = [kind for kind in kinds if not kind.startswith(_DOCUMENTS)]
    if not more:
        return "documentation and formatting"
    if len(more) == 1 and more[0].startswith(_ONE_MODEL):
        return "one model"
    return "others"


@dataclass
class Report:
    """All trials so far, summed up.

    Attributes:
        groups: for each sort of commit how many, and the scores of the engine and of dbt.
        engine, dbt: over all trials. Many edits change nothing in this data, and no plan can know.
        engine_seen, dbt_seen: over the trials that changed the content of some relation.
        seen: how many these are.
    """

    engine: Score = field(default_factory=Score)
    dbt: Score = field(default_factory=Score)
    engine_seen: Score = field(default_factory=Score)
    dbt_seen: Score = field(default_factory=Score)
    seen: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Score] = field(default_factory=dict)
    groups: dict[str, tuple[int, Score, Score]] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    misses: list[Trial] = field(default_factory=list)
    valid: int = 0
    nodes: int = 0
    seconds: float = 0.0

    def add(self, trial: Trial) -> None:
        self.tried.update(trial.kinds)
        if trial.error:
            self.invalid.update(trial.kinds)
            if trial.crash:
                self.misses.append(trial)
            return
        self.valid += 1
        self.nodes += trial.nodes
        self.seconds += trial.seconds
        differ, due = set(trial.differ), set(trial.due)
        self.engine.add(due, differ)
        self.dbt.add(set(trial.dbt), differ)
        if differ:
            self.seen += 1
            self.engine_seen.add(due, differ)
            self.dbt_seen.add(set(trial.dbt), differ)
        group = group_of(trial.kinds)
        before, engine, dbt = self.groups.get(group, (0, Score(), Score()))
        engine.add(due, differ)
        dbt.add(set(trial.dbt), differ)
        self.groups[group] = (before + 1, engine, dbt)
        if len(trial.kinds) == 1:
            self.by_kind.setdefault(trial.kinds[0], Score()).add(due, differ)
        self.causes.update({" + ".join(trial.kinds): len(trial.needless)})
        if trial.misses:
            self.misses.append(trial)

    @property
    def scores(self) -> dict[str, Score]:
        return {
            "engine": self.engine,
            "dbt": self.dbt,
            "engine_seen": self.engine_seen,
            "dbt_seen": self.dbt_seen,
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "trials": self.valid,
            "edits": (self.tried - self.invalid).total(),
            "seen": self.seen,
            "invalid": self.invalid.total(),
            "nodes": self.nodes,
            "seconds": self.seconds,
            **{
                name: {**asdict(score), "recall": score.recall, "precision": score.precision}
                for name, score in self.scores.items()
            },
            "groups": {
                name: {"trials": trials_, "engine": asdict(engine), "dbt": asdict(dbt)}
                for name, (trials_, engine, dbt) in sorted(self.groups.items())
            },
            "by_kind": {kind: asdict(score) for kind, score in sorted(self.by_kind.items())},
            "needless": dict(self.causes.most_common(30)),
            "misses": [asdict(trial) for trial in self.misses],
        }

    def print(self, console: Console) -> None:
        table = Table("edit", "tried", "invalid", "differ", "due", "precision", title="Edits")
        for kind in sorted(self.tried):
            score = self.by_kind.get(kind, Score())
            numbers = (self.tried[kind], self.invalid[kind], score.differ, score.said)
            table.add_row(kind, *map(str, numbers), f"{score.precision:.2f}" if score.said else "")
        console.print(table)
        table = Table("commits of", "trials", "differ", "due", "precision", "dbt's", title="Groups")
        for name, (trials_, engine, dbt) in sorted(self.groups.items()):
            precision = f"{engine.precision:.3f}", f"{dbt.precision:.3f}"
            table.add_row(name, str(trials_), str(engine.differ), str(engine.said), *precision)
        console.print(table)
        for name, score in self.scores.items():
            console.print(
                f"{name}: recall {score.recall:.4f}, precision {score.precision:.3f}"
                f" ({score.differ} differ, {score.said} due, {score.right} of them differ)"
            )
        console.print(
            f"{(self.tried - self.invalid).total()} edits in {self.valid} trials, {self.seen} of "
            f"which changed some content; {self.nodes} nodes compared, "
            f"{self.seconds / max(self.valid, 1):.2f} s for each trial, "
            f"{len(self.misses)} trials with MISSES or crashes"
        )


def describe(trial: Trial) -> str:
    """A trial in words, with the diff if there are misses."""
    lines = [f"{trial.seed}:{trial.iteration}"]
    lines += [f"  {kind}: {did}" for kind, did in zip(trial.kinds, trial.did, strict=True)]
    lines += [f"  CRASH {trial.crash}"] if trial.crash else []
    lines += [f"  MISS ({way}) {node}: {why}" for way, node, why in trial.misses]
    return "\n".join([*lines, trial.diff] if trial.diff else lines)


def _reproduce(seed: int, iteration: int, level1: bool) -> Trial:
    with tempfile.TemporaryDirectory() as folder:
        _open_workshop(folder, level1)
        trial = _trial(seed, iteration)
        assert _workshop is not None
        trial.diff = text_diff(
            _workshop.base.state, edited(_workshop.base.state, seed, iteration)[0]
        )
    return trial


def main(  # noqa: PLR0917
    edits: Annotated[int, typer.Option(help="How many trials.")] = 100,
    seed: Annotated[int, typer.Option()] = 1,
    seconds: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all trials.")] = None,
    level1: Annotated[bool, typer.Option(help="Without compiled SQL.")] = False,
    reproduce: Annotated[str | None, typer.Option(help="SEED:ITERATION of one trial.")] = None,
) -> None:
    """Edit a dbt project at random, build it, and compare with what the change engine said."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if reproduce:
        number, iteration = map(int, reproduce.split(":"))
        trial = _reproduce(number, iteration, level1)
        console.print(describe(trial))
        for name in ("error", "differ", "due", "dbt", "needless"):
            console.print(f"{name}: {json.dumps(getattr(trial, name), indent=1)}")
        sys.exit(bool(trial.misses or trial.crash))
    report = Report()
    everything: list[Trial] = []
    for trial in trials(edits, seed, jobs, seconds, level1):
        report.add(trial)
        everything.append(trial)
        if trial.misses or trial.crash:
            console.print(describe(trial))
        elif report.valid % 100 == 0:
            console.print(f"{report.valid} edits, {len(report.misses)} with misses")
        if json_file and (trial.misses or report.valid % 100 == 0 or report.valid == edits):
            whole = {**report.as_json(), "all": [asdict(t) for t in everything]}
            json_file.write_text(json.dumps(whole, indent=1))
    report.print(console)
    sys.exit(bool(report.misses))


if __name__ == "__main__":
    typer.run(main)
