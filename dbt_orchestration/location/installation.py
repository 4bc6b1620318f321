"""The environments of an installation, each as a code location of its own."""

from __future__ import annotations

import dagster as dg

from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.revisions.current import loaded_revision
from dbt_orchestration.settings.models import load_settings

_built: dict[tuple[str, str], dg.Definitions] = {}


def load_definitions(name: str) -> dg.Definitions:
    """The definitions of the environment ``name`` of the installation.

    Dagster asks four times for each load; they are built once.

    Raises:
        SettingsError: a setting is wrong, or there is no such environment.
    """
    settings = load_settings()
    key = name, loaded_revision(settings, name)
    if key not in _built:
        # One step a run: a process for it would only take time.
        executor = dg.Definitions(executor=dg.in_process_executor)
        _built[key] = dg.Definitions.merge(build_definitions(settings, name), executor)
    return _built[key]
