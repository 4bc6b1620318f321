"""Do pushes and forms leave in the warehouse what a build from nothing makes? Lives, at random.

A chain is an environment's life: a remote, the real sensor, the real runs, a DuckDB file. Its first
commit is built; then come pushes of random edits (those of ``benchmarks.soundness``, and those of
``benchmarks.history_edits``), and between them failed, stopped and resumed runs, restarts with
other environment variables, reverts, full builds, clicks, days that pass, and what people do with
forms (``benchmarks.history_forms``).
After every push that settles each relation has to equal the same commit built from nothing, or the
one that is held: rows, columns, their order and types; nothing may be due, and nothing may have
been built whose code did not change.

    python -m benchmarks.history --pushes 1000 --seed 1
    python -m benchmarks.history --reproduce 1:17 [--shrink]

``benchmarks.history_judge`` says what cannot be compared, and each such node is counted.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.history_chain import Deed, Life, Step, script
from benchmarks.history_judge import Judge
from benchmarks.history_nothing import Nothing
from benchmarks.history_site import Living, in_this_process
from benchmarks.history_world import Clock, Whole, first_state

_FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
_DIED = "died"
_LONGEST = 8
_SHORTEST = 5


@dataclass
class Chain:
    """What came of a chain."""

    seed: int
    number: int
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        return any(step.wrong for step in self.steps)

    @property
    def pushed(self) -> int:
        return sum(step.pushed for step in self.steps)


class Worker:
    """Lives chains, one after the other, in ``root``."""

    def __init__(self, root: Path, without: Collection[str] = ()) -> None:
        self._root = root
        self._without = without
        self._first_state = first_state([w for w in without if w.startswith("models/")])
        self._clock = Clock()
        self._nothing = Nothing(root / "nothing", self._clock)
        self._built = root / "built"
        with Living.at(self._built) as site, self._clock.ruling():
            state = self._first_state
            os.environ.update(state.environment)
            self._first: Whole = self._nothing.build(state)
            site.commit(state, "first")
            life = self._life(site)
            [step] = life.live([Deed("settle", "0")])
            if step.wrong:
                raise RuntimeError(f"the first build is wrong already: {step.wrong} {step.said}")

    def _life(self, site: Living) -> Life:
        judge = Judge(self._nothing, site.settings.duckdb_path)
        return Life(
            site, self._nothing, self._clock, judge, self._first_state, self._first, self._without
        )

    def live(self, seed: int, number: int, deeds: Sequence[Deed]) -> Chain:
        """Do all of this in a new environment."""
        chain, started, used = Chain(seed, number), time.monotonic(), time.process_time()
        home = self._root / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self._built, home, symlinks=True)
        before = dict(os.environ)
        self._clock.now = Clock().now
        try:
            with Living.at(home) as site, self._clock.ruling():
                os.environ.update(self._first_state.environment)
                life = self._life(site)
                for step in life.live([Deed("settle", "0"), *deeds]):
                    chain.steps.append(step)
        finally:
            os.environ.clear()
            os.environ.update(before)
        if self._nothing.mistakes:
            chain.steps.append(
                Step("from nothing", wrong={"mistake": "; ".join(self._nothing.mistakes)})
            )
            self._nothing.mistakes.clear()
        chain.seconds = time.monotonic() - started
        chain.cpu_seconds = time.process_time() - used
        return chain


_worker: Worker | None = None
_open = ExitStack()


def _open_worker(folder: str, without: Collection[str]) -> None:
    global _worker  # noqa: PLW0603
    faulthandler.enable()
    _open.enter_context(in_this_process())
    _worker = Worker(Path(tempfile.mkdtemp(dir=folder)), without)


def _live(seed: int, number: int, deeds: Sequence[Deed]) -> Chain:
    assert _worker is not None
    return _worker.live(seed, number, deeds)


def chains(
    pushes: int,
    seed: int,
    jobs: int = 1,
    seconds: float | None = None,
    without: Collection[str] = (),
) -> Iterator[Chain]:
    """Chains until there were so many pushes, or the time is over."""
    until = time.monotonic() + (seconds or float("inf"))
    numbers, done = count(), 0
    with tempfile.TemporaryDirectory(dir=_FAST) as top:
        while done < pushes and time.monotonic() < until:
            with ProcessPoolExecutor(
                jobs, get_context("spawn"), _open_worker, (top, without)
            ) as pool:
                running: dict[Future[Chain], int] = {}
                while done < pushes and time.monotonic() < until:
                    while len(running) < jobs:
                        number = next(numbers)
                        lives = pool.submit(_live, seed, number, drawn(seed, number))
                        running[lives] = number
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    ended = [_result(future, seed, running.pop(future)) for future in finished]
                    done += sum(chain.pushed for chain in ended)
                    yield from ended
                    if any(step.kind == _DIED for chain in ended for step in chain.steps):
                        break  # and with it the pool
                for future in running:
                    future.cancel()


def _result(future: Future[Chain], seed: int, number: int) -> Chain:
    try:
        return future.result()
    except BrokenProcessPool as error:
        return Chain(seed, number, [Step(_DIED, wrong={"process": str(error)})])


def drawn(seed: int, number: int) -> list[Deed]:
    """What is done in a chain."""
    return script(seed, number, _SHORTEST + number % (_LONGEST - _SHORTEST + 1))


@dataclass
class Report:
    """All chains so far, summed up."""

    chains: int = 0
    pushes: int = 0
    settled: int = 0
    same: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    wrong: list[Chain] = field(default_factory=list)

    def add(self, chain: Chain) -> None:
        self.chains += 1
        self.pushes += chain.pushed
        self.seconds += chain.seconds
        self.cpu_seconds += chain.cpu_seconds
        for step in chain.steps:
            self.settled += step.settled
            self.same += step.same
            self.kinds[step.kind] += 1
            self.edits.update(step.edits)
            self.left_out.update(why.partition(":")[0] for why in step.left_out.values())
            self.spent.update(step.seconds)
        if chain.is_wrong:
            self.wrong.append(chain)

    def as_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("chains", "pushes", "settled", "same")},
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            **{
                name: dict(getattr(self, name).most_common())
                for name in ("kinds", "edits", "left_out", "spent")
            },
            "wrong": [asdict(chain) for chain in self.wrong],
        }

    def print(self, console: Console) -> None:
        table = Table("kind of edit", "pushed", title="Edits")
        for kind, number in sorted(self.edits.items()):
            table.add_row(kind, str(number))
        console.print(table)
        for title, counts in (
            ("done", self.kinds),
            ("nodes that differ and may", self.left_out),
            ("CPU seconds", self.spent),
        ):
            said = ", ".join(f"{name} {number:,.0f}" for name, number in counts.most_common())
            console.print(f"{title}: {said}")
        console.print(
            f"{self.pushes} pushes in {self.chains} chains, compared {self.settled} times:"
            f" {self.same} nodes as from nothing, {sum(self.left_out.values())} left out;"
            f" {self.seconds / max(self.pushes, 1):.1f} s for each push"
            f" ({self.cpu_seconds / max(self.pushes, 1):.1f} of CPU);"
            f" {len(self.wrong)} chains with DIFFERENCES"
        )


def describe(chain: Chain, *, diffs: bool = True) -> str:
    """A chain in words."""
    lines = [f"{chain.seed}:{chain.number}"]
    for step in chain.steps:
        lines.append(f"== {step.kind}: {'; '.join(step.did)}")
        lines += [f"   {line}" for line in step.diff.splitlines() if diffs]
        lines += [f"   run: {run}" for run in step.runs]
        lines += [f"   said: {step.said}"] if step.said else []
        lines += [f"   left out: {node}: {why}" for node, why in step.left_out.items()]
        lines += [f"   WRONG {node}: {how}" for node, how in step.wrong.items()]
    return "\n".join(lines)


def shrink(seed: int, number: int, deeds: Sequence[Deed], say: Any) -> tuple[list[Deed], Chain]:
    """The deeds that it takes to see the same thing wrong."""
    first = _live(seed, number, deeds)
    wanted = _what(first)
    kept, last = list(deeds[: len(first.steps) - 1]), first
    for place in reversed(range(len(kept))):
        for fewer in _without(kept, place):
            chain = _live(seed, number, fewer)
            if wanted & _what(chain):
                kept, last = fewer, chain
                say(f"{len(kept)} deeds left")
                break
    return kept, last


def _what(chain: Chain) -> set[str]:
    return {
        f"{node} {how.split(':')[0]}" for step in chain.steps for node, how in step.wrong.items()
    }


def _without(deeds: list[Deed], place: int) -> Iterator[list[Deed]]:
    yield [*deeds[:place], *deeds[place + 1 :]]
    deed = deeds[place]
    for edit in deed.edits if len(deed.edits) > 1 else ():
        fewer = replace(deed, edits=tuple(e for e in deed.edits if e != edit))
        yield [*deeds[:place], fewer, *deeds[place + 1 :]]


def _reproduce(
    seed: int, number: int, without: Collection[str], smaller: bool, console: Console
) -> Chain:
    with tempfile.TemporaryDirectory(dir=_FAST) as folder:
        _open_worker(folder, without)
        deeds = drawn(seed, number)
        if smaller:
            return shrink(seed, number, deeds, console.print)[1]
        return _live(seed, number, deeds)


def main(  # noqa: PLR0917
    pushes: Annotated[int, typer.Option(help="How many pushes.")] = 100,
    seed: Annotated[int, typer.Option()] = 1,
    seconds: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found.")] = None,
    reproduce: Annotated[str | None, typer.Option(help="SEED:CHAIN of one chain.")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Part of a kind of edit that is not made, or the beginning of a path in models/."
        ),
    ] = None,
    shrink_it: Annotated[
        bool, typer.Option("--shrink", help="Leave out what it does not take.")
    ] = False,
) -> None:
    """Push random edits at an environment, and compare it with builds from nothing."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if reproduce:
        number, chain = map(int, reproduce.split(":"))
        found = _reproduce(number, chain, without or (), shrink_it, console)
        console.print(describe(found))
        sys.exit(found.is_wrong)
    report = Report()
    for one in chains(pushes, seed, jobs, seconds, without or ()):
        report.add(one)
        if one.is_wrong:
            console.print(describe(one))
        console.print(
            f"{one.seed}:{one.number} {one.pushed} pushes, {one.seconds:.0f} s"
            f" ({one.cpu_seconds:.0f} of CPU);"
            f" {report.pushes} pushes, {len(report.wrong)} chains with differences"
        )
        if json_file:
            json_file.write_text(json.dumps(report.as_json(), indent=1))
    report.print(console)
    sys.exit(bool(report.wrong))


if __name__ == "__main__":
    typer.run(main)
