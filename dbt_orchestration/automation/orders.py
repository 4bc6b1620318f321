"""The check that is yellow while an environment is held or paused, and says by whom and why.

The push sensor keeps it up to date by itself.
"""

import dagster as dg

from dbt_orchestration.ledger.held import Hold, Pause, held, paused
from dbt_orchestration.ledger.pushes import as_result, pushes_key

NOT_HELD = "not_held_or_paused"


def follows_check(environment: str, branch: str) -> dg.AssetChecksDefinition:
    """The check of an environment that follows a branch."""

    @dg.asset_check(
        asset=pushes_key(environment),
        name=NOT_HELD,
        description=f"{environment} is neither held at an older commit of {branch} nor paused. The"
        " push sensor looks by itself.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        instance = context.instance
        return as_result(
            follows(environment, held(instance, environment), paused(instance, environment))
        )

    return check


def follows(environment: str, hold: Hold | None, pause: Pause | None) -> dg.AssetCheckEvaluation:
    """What the check says."""
    orders = [each for each in (hold, pause) if each]
    metadata = {"commit": hold.sha} if hold else {}
    for each in orders:
        metadata |= {"by": each.who, "reason": each.reason, "run": each.run_id}
    return dg.AssetCheckEvaluation(
        asset_key=pushes_key(environment),
        check_name=NOT_HELD,
        passed=not orders,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(map(str, orders)) or "Neither held nor paused.",
        metadata=metadata,
    )
