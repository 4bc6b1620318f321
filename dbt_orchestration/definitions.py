"""The code locations: each attribute of this module is the environment of that name.

``workspace.yaml`` names one per environment. Each is built when asked for, so that loading ``prod``
costs nothing of ``dev``. Nothing else here has a name that an environment could have: Python would
take it for the environment without asking.
"""

import gc as _gc

from dagster import Definitions as _Definitions

from dbt_orchestration.location.installation import load_definitions as _load_definitions

# This process is the installation's own. Manifests are hundreds of thousands of objects that live
# as long as it does. Python's default walks them all again and again: a quarter of the CPU of a run
# on 1,000 models.
_gc.set_threshold(200_000, 20, 100)


def __getattr__(name: str) -> _Definitions:
    if name.startswith("_"):
        raise AttributeError(name)
    return _load_definitions(name)
