"""What has still to be told is told: each address is brought from what it knows to how it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from dbt_orchestration.automation.telling.incidents import Incident
from dbt_orchestration.automation.telling.memory import Channel, Memory, Told
from dbt_orchestration.automation.telling.message import Event, compose
from dbt_orchestration.automation.telling.routing import (
    WEBHOOK,
    Address,
    addresses_of,
    is_quiet,
    is_set,
)
from dbt_orchestration.automation.telling.texts import TEXTS
from dbt_orchestration.automation.telling.tools import Sent, TellError, Tool
from dbt_orchestration.settings.notify import Notify

# Dagster gives a tick 60 seconds. What has not been told by then is told by the next.
_BUDGET_SECONDS = 35.0


@dataclass(frozen=True)
class _News:
    """Incidents that are told in one message, which follows another one if ``before`` is known."""

    event: Event
    incidents: Sequence[Incident]
    before: Sent | None


@dataclass(frozen=True)
class Teller:
    """Tells what is known of an environment.

    Attributes:
        tools: by name.
        timezone: of quiet hours that name none.
        keep: called after each message, and after each that could not be sent.
        say: told what was sent.
    """

    notify: Notify
    environment: str
    tools: Mapping[str, Tool]
    timezone: str
    keep: Callable[[], None]
    say: Callable[[str], None]

    def tell(self, memory: Memory, now: float) -> None:
        """Send what there is to send, as far as the time suffices."""
        ends = monotonic() + _BUDGET_SECONDS
        quiet = is_quiet(self.notify.quiet_hours, self.timezone, now)
        wanted: dict[Address, list[Incident]] = {}
        for incident in memory.open.values():
            for address in addresses_of(self.notify, incident):
                wanted.setdefault(address, []).append(incident)
        for text in [*memory.channels]:
            if is_set(self.notify, Address.of(text)):
                wanted.setdefault(Address.of(text), [])
            else:
                del memory.channels[text]
        for address, incidents in sorted(wanted.items()):
            tool = self.tools.get(address.tool)
            if tool is None or (quiet and address.tool != WEBHOOK):
                continue
            channel = memory.channels.setdefault(str(address), Channel())
            for news in _news(address, tool, channel, incidents, memory):
                if now < channel.pause or monotonic() > ends:
                    break
                self._send(address, tool, channel, news, now)
                self.keep()

    def _send(
        self, address: Address, tool: Tool, channel: Channel, news: _News, now: float
    ) -> None:
        texts, url = TEXTS[self.notify.language], self.notify.dagster_url
        message = compose(texts, self.environment, url, news.event, news.incidents)
        said = {each.key for each in news.incidents}
        others = {told.sent for key, told in channel.told.items() if key not in said}
        message = replace(message, ends=news.event is Event.CLOSED and news.before not in others)
        try:
            sent = tool.send(address.to, message, news.before)
        except Exception as error:
            # Whatever a tool does, the others are told. Words of others may hold a secret.
            why = str(error) if isinstance(error, TellError) else type(error).__name__
            channel.failed(why, now)
            for each in news.incidents:
                channel.told.setdefault(each.key, Told())
            return
        channel.succeeded()
        self.say(f"{address}: {message.title}")
        for each in news.incidents:
            if each.ended:
                del channel.told[each.key]
            else:
                channel.told[each.key] = Told(each.version, sent)


def _news(
    address: Address, tool: Tool, channel: Channel, wanted: Sequence[Incident], memory: Memory
) -> Sequence[_News]:
    """What an address does not know yet; together what has one cause, or follows one message."""
    told = channel.told
    known = {each.key: told[each.key].version for each in wanted if each.key in told}
    opened = [each for each in wanted if not known.get(each.key)]
    updated = [each for each in wanted if known.get(each.key, "") not in ("", each.version)]
    closed = [memory.incidents[key] for key in told if memory.incidents[key].ended]
    if not tool.follows:
        for each in updated:
            told[each.key].version = each.version
        updated = []

    def thread(incident: Incident) -> str:
        return told[incident.key].sent.thread

    groups: dict[tuple[Event, str], list[Incident]] = {}
    for event, incidents, common in (
        (Event.OPENED, opened, lambda each: each.cause),
        (Event.UPDATED, updated, thread),
        (Event.CLOSED, closed, thread),
    ):
        for each in incidents:
            what = each.key if address.tool == WEBHOOK else common(each)
            groups.setdefault((event, what), []).append(each)
    return [
        _News(event, group, None if event is Event.OPENED else told[group[0].key].sent)
        for (event, _), group in groups.items()
    ]
