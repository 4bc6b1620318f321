"""What was told, to whom: kept in Dagster's own database, written after each message.

A process that dies in between says a message once more, with the same id, rather than not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from dbt_orchestration import dagster_internals
from dbt_orchestration.automation.pauses import pause_after
from dbt_orchestration.automation.telling.incidents import Incident
from dbt_orchestration.automation.telling.tools import Sent


@dataclass
class Told:
    """What an address was told of an incident.

    Attributes:
        version: of the incident; "" if it was to be told, and was not.
    """

    version: str = ""
    sent: Sent = field(default_factory=Sent)


@dataclass
class Channel:
    """What is known of an address.

    Attributes:
        told: by the key of the incident.
        problem: why nothing can be sent; "" if something can.
        tries: that failed since something could.
        pause: until when nothing is tried, in seconds since 1970.
    """

    told: dict[str, Told] = field(default_factory=dict)
    problem: str = ""
    tries: int = 0
    pause: float = 0.0

    def failed(self, problem: str, now: float) -> None:
        """Try again, each time later."""
        self.pause = now + pause_after(self.tries)
        self.tries, self.problem = self.tries + 1, problem

    def succeeded(self) -> None:
        """Something was sent."""
        self.tries, self.problem, self.pause = 0, "", 0.0


@dataclass
class Memory:
    """What is known of an environment's incidents.

    Attributes:
        since: when it was first looked for any, in seconds since 1970.
        incidents: by key; those that are over, too, while somebody has to be told.
        channels: by address.
    """

    since: float
    incidents: dict[str, Incident] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)

    @classmethod
    def read(cls, instance: dg.DagsterInstance, environment: str, now: float) -> Memory:
        """As it was written; empty if that was never, or by another version of this package."""
        key = _note(environment)
        text = dagster_internals.read_notes(instance, [key]).get(key)
        try:
            return _MEMORY.validate_json(text) if text else cls(now)
        except ValidationError:
            return cls(now)

    def write(self, instance: dg.DagsterInstance, environment: str) -> None:
        """Keep it."""
        text, key = _MEMORY.dump_json(self).decode(), _note(environment)
        if dagster_internals.read_notes(instance, [key]).get(key) != text:
            dagster_internals.write_note(instance, key, text)

    @property
    def open(self) -> Mapping[str, Incident]:
        """The incidents that are not over, by key."""
        return {key: each for key, each in self.incidents.items() if not each.ended}

    @property
    def problems(self) -> Mapping[str, str]:
        """Why nothing can be sent, by address."""
        return {to: channel.problem for to, channel in self.channels.items() if channel.problem}

    def see(self, incidents: Mapping[str, Incident], there: Collection[str], now: float) -> None:
        """Take over what is wrong now; what is not any more is over.

        Args:
            there: the unique ids that the project has.
        """
        for key, known in self.open.items():
            if key not in incidents:
                gone = {"gone": "true"} if known.node and known.node not in there else {}
                self.incidents[key] = replace(known, ended=now, facts={**known.facts, **gone})
        self.incidents |= incidents

    def forget(self) -> None:
        """Forget what is over, and was told to all that knew of it."""
        self.channels = {
            address: each for address, each in self.channels.items() if each.told or each.problem
        }
        owed = {key for channel in self.channels.values() for key in channel.told}
        self.incidents = {
            key: each for key, each in self.incidents.items() if not each.ended or key in owed
        }


_MEMORY = TypeAdapter(Memory)


def _note(environment: str) -> str:
    return f"dbt_orchestration/told/{environment}"
