"""The run that the push sensor asks for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import dagster as dg

from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.ledger.due import Due, Ledger
from dbt_orchestration.ledger.pushes import seconds_of
from dbt_orchestration.ledger.run_tags import PUSH_TAG
from dbt_orchestration.revisions.explanation import Explanation
from dbt_orchestration.runs.request import BuildRequest, order_of


def request(ledger: Ledger, due: Due, ordered: Collection[str]) -> dg.RunRequest:
    """The run that builds what is due, with the reasons for each node.

    Args:
        ordered: who has ordered what of it, and why; "" for nobody.
    """
    revision, dbt = ledger.revision, ledger.dbt
    why = f"{due.count} of {len(dbt.nodes)}: {due.names(dbt)}"
    alone = [u for u in dbt.nodes if u not in due.nodes]
    order = replace(
        order_of(dbt, due.nodes, due.partitions),
        reasons={u: _reason(why) for u, why in due.nodes.items()},
        left_alone=len(alone),
        seconds_saved=seconds_of(due.built, alone),
    )
    last = {**due.gone, **due.built}
    attempt = digest_value(
        [
            sorted((u, last[u].timestamp if u in last else 0) for u in due.nodes),
            sorted((u, list(keys)) for u, keys in due.partitions.items() if u in due.nodes),
            sorted(map(str, due.checks)),
            due.deaths,
        ]
    )
    return BuildRequest.of_nodes(dbt, due.nodes, order, due.checks).run_request(
        dbt,
        # The same again, should the daemon die before the run is launched.
        f"{revision.digest} {attempt}",
        "; ".join(filter(None, [why, *ordered])),
        {PUSH_TAG: ledger.environment},
    )


def _reason(why: Explanation) -> str:
    return f"{', '.join(why.changes)}: {why.reason}" if why.changes else why.reason
