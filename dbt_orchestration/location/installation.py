"""The environments of an installation, each as a code location of its own."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.revisions.current import loaded_revision
from dbt_orchestration.settings.models import SettingsError, load_settings

_built: dict[tuple[str, str], dg.Definitions] = {}


def load_definitions(name: str) -> dg.Definitions:
    """The definitions of the environment ``name`` of the installation.

    Dagster asks four times for each load; they are built once.

    Raises:
        SettingsError: a setting is wrong, there is no such environment, or ``DAGSTER_HOME`` has no
            dagster.yaml.
    """
    _refuse_missing_instance(name)
    settings = load_settings()
    key = name, loaded_revision(settings, name)
    if key not in _built:
        # One step a run: a process for it would only take time.
        executor = dg.Definitions(executor=dg.in_process_executor)
        _built[key] = dg.Definitions.merge(build_definitions(settings, name), executor)
    return _built[key]


def _refuse_missing_instance(name: str) -> None:
    """A code server without its dagster.yaml looks well, and never sees a published revision.

    Dagster gives a run its instance in the arguments of its process: it needs no file.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home or dagster_internals.is_loaded_for_a_run():
        return
    if not (Path(home) / "dagster.yaml").is_file():
        raise SettingsError(
            f"{name}: DAGSTER_HOME is {home}, and there is no dagster.yaml: the code server would"
            " use an empty Dagster of its own. Put the dagster.yaml of the webserver and the daemon"
            " there"
        )
