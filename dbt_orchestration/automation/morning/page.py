"""The morning page in Markdown. Lists are bounded: it is read in a minute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from dbt_orchestration.automation.morning.morning import Model, Morning, Pushed
from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.automation.telling.texts import Texts
from dbt_orchestration.markdown import code, inline, link
from dbt_orchestration.settings.types import named

_MOST = 20
_MOST_MODELS = 10
_MOST_NAMES = 5


@dataclass(frozen=True)
class Page:
    """Writes a morning in a language.

    Attributes:
        dagster_url: Dagster's address; "" for links that work within Dagster.
    """

    texts: Texts
    timezone: str
    dagster_url: str

    def write(self, morning: Morning) -> str:
        """The page."""
        parts = {
            "failed": self._list(map(self._incident, morning.failed)),
            "late": self._list(map(self._incident, morning.late)),
            "waits": self._waits(morning),
            "pushes": self._pushes(morning.pushes),
            "models": self._models(morning),
            "tests": self._tests(morning),
            "orphans": self._orphans(morning),
            "cost": self._cost(morning),
        }
        said = [f"# {inline(morning.environment)}, {self._time(morning.written)}"]
        said += self._head(morning)
        for name, heading in self.texts.page.headings.items():
            said += [f"## {heading}", *([*parts[name]] or [self.texts.page.nothing])]
        return "\n\n".join(said)

    def _head(self, morning: Morning) -> Iterator[str]:
        page, commit = self.texts.page, morning.commit
        if commit:
            title = f"{commit.short} “{inline(commit.title)}”"
            title = link(title, commit.url) if commit.url else title
            yield page.commit.format(commit=title, author=inline(commit.author))
        if build := morning.daily:
            words = page.builds[build.how].format(
                time=self._time(build.started), took=_duration(build.seconds)
            )
            yield f"{words} {self._run(build.run_id)}"
        else:
            yield page.no_build

    # What is wrong

    def _incident(self, incident: Incident) -> str:
        facts = incident.facts
        links = [self._run(facts["run"])] if facts.get("run") else []
        if asset := facts.get("asset"):
            links.append(link(self.texts.asset, f"{self.dagster_url}/assets/{asset}"))
        if url := facts.get("commit_url"):
            links.append(link(self.texts.commit, url))
        lines = [" · ".join([f"**{inline(self.texts.title(incident))}**", *links])]
        if facts.get("author"):
            is_commit = incident.kind is Kind.COMMIT_BROKEN
            said = self.texts.written_by if is_commit else self.texts.changed_by
            lines.append(inline(said.format_map({"subject": "", **facts})))
        if why := facts.get("why"):
            lines.append(code(why, "text"))
        return "\n\n".join(lines).replace("\n", "\n  ")

    def _waits(self, morning: Morning) -> Iterator[str]:
        waits = [*map(self._incident, morning.waits)]
        if morning.tried:
            waits.append(self.texts.page.tried)
        yield from self._list(waits)

    # What happened

    def _pushes(self, pushes: Sequence[Pushed]) -> Iterator[str]:
        names = ("commit", "author", "built", "took", "left_alone", "saved")
        rows = [
            (
                link(inline(push.commit), push.url) if push.url else inline(push.commit),
                inline(push.author),
                self._built(push),
                _duration(push.seconds) if push.run_id else "",
                f"{push.left_alone:,}",
                _duration(push.saved),
            )
            for push in pushes[:_MOST]
        ]
        yield from self._table(names, rows)
        yield from self._more(len(pushes) - _MOST)

    def _built(self, push: Pushed) -> str:
        if not push.run_id:
            return self.texts.page.not_due
        names = [inline(name) for name in push.names[:_MOST_NAMES]]
        names += self._more(len(push.names) - _MOST_NAMES)
        return f"{', '.join(names)} {self._run(push.run_id)}".strip()

    # Models and tests

    def _models(self, morning: Morning) -> Iterator[str]:
        page = self.texts.page
        slowest = sorted(morning.models, key=lambda each: -each.seconds)[:_MOST_MODELS]
        grown = sorted(
            (each for each in morning.models if each.growth > 0), key=lambda each: -each.growth
        )
        if slowest:
            yield page.slowest
            yield from self._table(("model", "took", "before", "rows"), map(self._slow, slowest))
        if grown:
            yield page.grown
            rows = map(self._grown, grown[:_MOST_MODELS])
            yield from self._table(("model", "rows", "before", "grown"), rows)
        if slowest and morning.compared:
            yield page.compared.format(time=self._time(morning.compared.started))

    def _slow(self, model: Model) -> Sequence[str]:
        before = model.seconds_before
        return (
            self._asset(model.asset),
            _duration(model.seconds),
            "" if before is None else _duration(before),
            "" if model.rows is None else f"{model.rows:,}",
        )

    def _grown(self, model: Model) -> Sequence[str]:
        before = model.rows_before or 0
        share = f" ({model.growth / before:.0%})" if before else ""
        grown = f"{model.growth:,}{share}"
        return self._asset(model.asset), f"{model.rows or 0:,}", f"{before:,}", grown

    def _tests(self, morning: Morning) -> Iterator[str]:
        page = self.texts.page
        said = [(page.flaps, each) for each in morning.flapping]
        said += [(page.warns, each) for each in morning.warning]
        yield from self._list(
            words.format(
                name=inline(test.name),
                asset=self._asset(test.asset),
                bad=test.bad,
                times=test.times,
            )
            for words, test in said
        )

    def _orphans(self, morning: Morning) -> Iterator[str]:
        if morning.orphans:
            yield self.texts.page.orphans.format(job=named(morning.environment, "drop_orphans"))
        yield from self._list(inline(each.relation) for each in morning.orphans)

    def _cost(self, morning: Morning) -> Iterator[str]:
        page, spent = self.texts.page, morning.spent
        known = any(each.credits is not None for each in spent)
        if spent:
            yield page.credits if known else page.cost
        rows = [
            (
                page.causes[each.cause],
                inline(each.author),
                f"{each.runs:,}",
                _duration(each.seconds),
                *([_credits(each.credits)] if known else []),
            )
            for each in spent[:_MOST]
        ]
        names = ("why", "author", "runs", "took", *(["credits"] if known else []))
        yield from self._table(names, rows)
        yield from self._more(len(spent) - _MOST)
        if morning.dearest:
            yield page.dearest
        dearest = [(self._asset(a), _credits(c)) for a, c in morning.dearest[:_MOST_MODELS]]
        yield from self._table(("model", "credits"), dearest)

    # What the parts share

    def _list(self, items: Iterable[str]) -> Iterator[str]:
        every = [f"- {each}" for each in items]
        if every:
            yield "\n".join([*every[:_MOST], *self._more(len(every) - _MOST, "- ")])

    def _more(self, count: int, bullet: str = "") -> Iterator[str]:
        if count > 0:
            yield f"{bullet}{self.texts.more.format(count=count)}"

    def _table(self, names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        if lines:
            columns = self.texts.page.columns
            head = f"| {' | '.join(columns[name] for name in names)} |"
            yield "\n".join([head, f"|{'---|' * len(names)}", *lines])

    def _run(self, run_id: str) -> str:
        return link(f"{self.texts.run} {run_id[:8]}", f"{self.dagster_url}/runs/{run_id}")

    def _asset(self, asset: str) -> str:
        name = inline(asset.rpartition("/")[2])
        return link(name, f"{self.dagster_url}/assets/{asset}")

    def _time(self, moment: float) -> str:
        return datetime.fromtimestamp(moment, ZoneInfo(self.timezone)).strftime("%Y-%m-%d %H:%M")


def _credits(credits: float | None) -> str:
    return "" if credits is None else f"{credits:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
