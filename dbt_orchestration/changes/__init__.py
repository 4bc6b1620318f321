"""The change engine: which nodes of a dbt project must be rebuilt between two states, and why.

Pure: no Dagster, no dbt process, no files, no clock. Its front door, described in its README.md:

- ``fingerprint(project)``: what decides the result of each node of a ``Project``.
- ``diff(base, head)``: the ``Plan`` from one fingerprinted state to another.
- ``column_lineage(fingerprints)``: which columns each column is computed from.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt_orchestration.changes.fingerprints import fingerprint
    from dbt_orchestration.changes.lineage import column_lineage
    from dbt_orchestration.changes.plan import Plan, diff
    from dbt_orchestration.changes.project import Compiled, Project

__all__ = ["Compiled", "Plan", "Project", "column_lineage", "diff", "fingerprint"]
_MODULES = {
    "Compiled": "project",
    "Plan": "plan",
    "Project": "project",
    "column_lineage": "lineage",
    "diff": "plan",
    "fingerprint": "fingerprints",
}


def __getattr__(name: str) -> Any:  # so that who needs one module does not load them all
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
