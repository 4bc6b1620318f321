"""One message about one or more incidents, before it takes the form of a tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.automation.telling.texts import Texts
from dbt_orchestration.changes.terms import digest

_NAMED = 10


class Event(StrEnum):
    """What has become of the incidents."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


@dataclass(frozen=True)
class Message:
    """What is to be said.

    Attributes:
        id: the same each time that this is said, to whomever.
        title: one line.
        detail: what dbt or git said.
        links: label and address of each.
        ends: whether nothing is left of what the message before was about.
    """

    id: str
    event: Event
    environment: str
    incidents: Sequence[Incident]
    title: str
    lines: Sequence[str] = ()
    detail: str = ""
    links: Sequence[tuple[str, str]] = ()
    ends: bool = False

    @property
    def text(self) -> str:
        """All but the title, without any markup."""
        links = [f"{label}: {address}" for label, address in self.links]
        return "\n".join(filter(None, [*self.lines, self.detail, *links]))


def compose(
    texts: Texts,
    environment: str,
    dagster_url: str | None,
    event: Event,
    incidents: Sequence[Incident],
    *,
    is_trial: bool = False,
) -> Message:
    """The message that says what has become of incidents, which have something in common."""
    incidents = sorted(incidents, key=lambda each: (each.kind.rank, each.node))
    first, others = incidents[0], incidents[1:]
    again = event is Event.UPDATED
    title = texts.title(first, again=again)
    lines = [f"• {texts.title(each, again=again)}" for each in others[:_NAMED]]
    if others:
        title += f", {texts.more.format(count=len(others))}"
    if others[_NAMED:]:
        lines.append(texts.more.format(count=len(others) - _NAMED))
    detail = ""
    if event is not Event.CLOSED:
        detail = next((each.facts["why"] for each in incidents if each.facts.get("why")), "")
        if not others and first.facts.get("author"):
            is_commit = first.kind is Kind.COMMIT_BROKEN
            said = texts.written_by if is_commit else texts.changed_by
            lines.append(said.format_map({"subject": "", **first.facts}))
    if is_trial:
        lines.append(texts.trial)
    run, asset = first.facts.get("run", ""), first.facts.get("asset", "")
    if run and not dagster_url:
        lines.append(f"{texts.run} {run[:8]}")
    links = [
        (f"{texts.run} {run[:8]}", f"{dagster_url}/runs/{run}" if run and dagster_url else ""),
        (texts.asset, f"{dagster_url}/assets/{asset}" if asset and dagster_url else ""),
        (texts.commit, first.facts.get("commit_url", "")),
    ]
    parts = [f"{each.key} {each.version} {each.since}" for each in incidents]
    return Message(
        digest(environment, event, *parts),
        event,
        environment,
        incidents,
        f"{environment}: {title}",
        lines,
        detail,
        [(label, address) for label, address in links if address],
    )
