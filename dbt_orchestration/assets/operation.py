"""Operations of ours that dbt runs in the warehouse, beside what it builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dbt_orchestration import upstream
from dbt_orchestration.invocation import DbtInvocation, DbtTarget

_MACROS = Path(__file__).parent.parent / "macros"


def operate(
    target: DbtTarget, manifest: Any, scratch: str, file: str, macro: str, **arguments: Any
) -> list[str]:
    """Run one of our macros; return what it said with ``log(..., info=True)``.

    Args:
        manifest: dbt's own, which gets the macros of ``file`` for this.
        scratch: a folder that dbt may write to.
        arguments: what the macro is called with; JSON values.

    Raises:
        DbtError: the warehouse refused; the message is dbt's.
    """
    upstream.add_macros(manifest, _MACROS / file)
    command = ["run-operation", macro, "--args", json.dumps(arguments)]
    command += ["--no-write-json", "--quiet", "--target-path", scratch]
    invocation = DbtInvocation(target, command, manifest)
    invocation.finish()
    return invocation.logged
