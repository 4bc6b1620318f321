"""The code locations: each attribute of this module is the environment of that name.

``workspace.yaml`` names one per environment. Each is built when asked for, so that loading ``prod``
costs nothing of ``dev``. Nothing else here has a name that an environment could have: Python would
take it for the environment without asking.
"""

from dagster import Definitions as _Definitions

from dbt_orchestration.location.installation import load_definitions as _load_definitions


def __getattr__(name: str) -> _Definitions:
    if name.startswith("_"):
        raise AttributeError(name)
    return _load_definitions(name)
