"""Whom an incident concerns, and when people are left alone."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.settings.notify import Notify, QuietHours, is_email

WEBHOOK = "webhook"


class Address(NamedTuple):
    """Where messages go. No part of it is a secret: of Teams it is the name of the route."""

    tool: str
    to: str

    def __str__(self) -> str:
        return f"{self.tool} {self.to}".strip()

    @classmethod
    def of(cls, text: str) -> Address:
        """What ``str`` gave."""
        tool, _, to = text.partition(" ")
        return cls(tool, to)


def everywhere(notify: Notify) -> Collection[Address]:
    """All addresses that are set."""
    return {*_default(notify), *(each for name in notify.routes for each in _route(notify, name))}


def addresses_of(notify: Notify, incident: Incident) -> Collection[Address]:
    """Those that are told of an incident."""
    groups, owners = set(incident.groups), {_plain(owner) for owner in incident.owners}
    routes = [
        name
        for name, route in notify.routes.items()
        if groups & set(route.groups) or owners & {_plain(owner) for owner in route.owners}
    ]
    found = {each for name in routes for each in _route(notify, name)} or set(_default(notify))
    if notify.webhook:
        found.add(Address(WEBHOOK, ""))
    if incident.kind is Kind.COMMIT_BROKEN and notify.email:
        # git's `Ann <ann@example.com>`, in which a committer may write what he likes.
        author = incident.facts.get("author", "").rpartition("<")[2].removesuffix(">")
        domains = {domain.lower() for domain in notify.email.author_domains}
        if is_email(author) and author.rpartition("@")[2].lower() in domains:
            found.add(Address("email", author))
    return found


def is_set(notify: Notify, address: Address) -> bool:
    """Whether an address of before can still be told something."""
    if address.tool == "teams":
        return address in everywhere(notify)
    return getattr(notify, address.tool, None) is not None


def is_quiet(hours: QuietHours | None, timezone: str, now: float) -> bool:
    """Whether people are left alone."""
    if hours is None:
        return False
    time = datetime.fromtimestamp(now, ZoneInfo(hours.timezone or timezone)).time()
    if hours.begin <= hours.end:
        return hours.begin <= time < hours.end
    return time >= hours.begin or time < hours.end


def _default(notify: Notify) -> Collection[Address]:
    found = {Address(WEBHOOK, "")} if notify.webhook else set()
    if notify.slack and notify.slack.channel:
        found.add(Address("slack", notify.slack.channel))
    if notify.email and notify.email.to:
        found.add(Address("email", ", ".join(notify.email.to)))
    if notify.teams:
        found.add(Address("teams", ""))
    return found


def _route(notify: Notify, name: str) -> Collection[Address]:
    route = notify.routes[name]
    said = {"slack": route.slack, "email": ", ".join(route.email), "teams": route.teams and name}
    return {Address(tool, to) for tool, to in said.items() if to}


def _plain(owner: str) -> str:
    return owner.removeprefix("team:").lower()
