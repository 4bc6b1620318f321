"""Our own macros, run in a warehouse, and what they answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dbt_orchestration.dbt.internals import manifests
from dbt_orchestration.dbt.invocation import DbtInvocation, DbtTarget

_MACROS = Path(__file__).parent / "macros"


def operate(target: DbtTarget, manifest: Any, macro: str, scratch: str, **arguments: Any) -> Any:
    """Run a macro of the folder ``macros``, and return what it logged as its answer, if anything.

    Args:
        manifest: dbt's own; the macros are added to it.
        scratch: a folder for what dbt writes.

    Raises:
        DbtError: the warehouse cannot be reached, or refused.
    """
    for file in sorted(_MACROS.glob("*.sql")):
        manifests.add_macros(manifest, file)
    command = ["run-operation", f"dbt_orchestration__{macro}", "--args", json.dumps(arguments)]
    command += ["--no-write-json", "--quiet", "--target-path", scratch]
    invocation = DbtInvocation(target, command, manifest)
    invocation.finish()
    return invocation.answer
