"""What dbt says of one result in several events, put together.

The event of a result has its status and its seconds. The message, what the adapter answered and the
statement that failed come in others, all from the thread that does the node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# Results of nodes, and of single batches of microbatch models.
_RESULTS = frozenset(
    {"LogModelResult", "LogSeedResult", "LogSnapshotResult", "LogTestResult", "LogBatchResult"}
)
_QUERY_ID = "Snowflake query id: "
_ON_A_THREAD = "Exception on worker thread. "


@dataclass(frozen=True)
class Sample:
    """Some of the rows that a test found.

    Attributes:
        error: why there are none; "" if nothing is wrong.
    """

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    error: str = ""


@dataclass
class _Thread:
    """What a thread has said since it began its node.

    Attributes:
        unanswered: statements that were sent, without those that succeeded.
        error: what a batch failed of, which its own result does not say.
        waiting: a result whose end has still to come.
    """

    unanswered: list[str] = field(default_factory=list)
    query_id: str = ""
    error: str = ""
    waiting: dict[str, Any] | None = None


class Outcomes:
    """The results of one dbt command.

    Args:
        take: gets each result event as dbt's structured log has it, and in its ``data`` as
            ``outcome``: ``message`` (which names no file of compiled code), ``adapter_response``,
            and of a failure the ``statement`` and the ``query_id``; "" where they are not known.
            Beside them stands what was added.
    """

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self._threads: dict[int, _Thread] = {}

    def see(self, event: Any) -> None:
        """Called by dbt with each of its events, in the thread that causes it."""
        name = event.info.name
        thread = self._threads.setdefault(threading.get_ident(), _Thread())
        if name == "NodeStart":
            thread.unanswered, thread.query_id, thread.error = [], "", ""
        elif name == "SQLQuery":
            thread.unanswered.append(event.data.sql)
        elif name == "SQLQueryStatus":
            del thread.unanswered[-1:]
        elif name == "AdapterEventDebug" and event.data.base_msg.startswith(_QUERY_ID):
            query_id = event.data.base_msg.removeprefix(_QUERY_ID)
            thread.query_id = "" if query_id == "None" else query_id
        elif name == "GenericExceptionOnRun":
            thread.error = _without_path(event.data.exc.removeprefix(_ON_A_THREAD))
        elif name in _RESULTS:
            self._flush(thread)
            thread.waiting = as_dict(event)
            thread.waiting["data"]["outcome"] = {
                "message": thread.error,
                "adapter_response": {},
                "statement": thread.unanswered[-1] if thread.unanswered else "",
                "query_id": thread.query_id,
            }
        elif name == "NodeFinished" and thread.waiting:
            result, outcome = (
                as_dict(event)["data"]["run_result"],
                thread.waiting["data"]["outcome"],
            )
            outcome["message"] = outcome["message"] or _without_path(result.get("message", ""))
            outcome["adapter_response"] = result.get("adapter_response", {})
            self._flush(thread)

    def add(self, name: str, value: object) -> None:
        """Put something beside the result that this thread has just said."""
        if waiting := self._threads[threading.get_ident()].waiting:
            waiting["data"]["outcome"][name] = value

    def end(self) -> None:
        """Hand over what dbt has not come to the end of."""
        for thread in self._threads.values():
            self._flush(thread)

    def _flush(self, thread: _Thread) -> None:
        if thread.waiting:
            self._take(thread.waiting)
            thread.waiting = None


def _without_path(message: str) -> str:
    """What dbt says, without the file of the machine in which it has put the compiled code."""
    lines = message.splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("compiled code at "))


def as_dict(event: Any) -> dict[str, Any]:
    """One of dbt's events as its structured log has it.

    https://docs.getdbt.com/reference/events-logging
    """
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(event, preserving_proto_field_name=True)
    return found
