"""``dbt-orchestration notify --test``: one message of each kind to each address."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.automation.telling.message import Event, compose
from dbt_orchestration.automation.telling.routing import everywhere
from dbt_orchestration.automation.telling.texts import TEXTS
from dbt_orchestration.automation.telling.tools import TellError, tools_of
from dbt_orchestration.settings.notify import Notify

_FACTS = {
    "branch": "main",
    "sha": "0123456789",
    "author": "Ann <ann@example.com>",
    "subject": "An example",
    "time": "2024-01-01 08:00",
    "type": "model",
    "what": "example",
    "model": "example",
    "rows": "3",
    "partitions": "365",
    "job": "prod_rebuild_history",
    "why": "Database error: an example",
}


def send_examples(environment: str, notify: Notify) -> Iterator[tuple[str, str]]:
    """Send them; each address, and why nothing could be sent there, "" if all was."""
    tools, missing = tools_of(notify)
    yield from missing.items()
    now = time.time()
    incidents = [
        Incident(kind, "model.example.example", str(now), _FACTS, since=now) for kind in Kind
    ]
    texts, url = TEXTS[notify.language], notify.dagster_url
    for address in sorted(everywhere(notify)):
        if (tool := tools.get(address.tool)) is None:
            continue
        try:
            for each in incidents:
                opened = compose(texts, environment, url, Event.OPENED, [each], is_trial=True)
                sent = tool.send(address.to, opened, None)
            over = replace(incidents[-1], ended=now)
            closed = compose(texts, environment, url, Event.CLOSED, [over], is_trial=True)
            tool.send(address.to, replace(closed, ends=True), sent)
        except TellError as error:
            yield str(address), str(error)
        else:
            yield str(address), ""
