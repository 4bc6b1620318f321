"""What a person chooses with dbt's selection, or with names."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.dbt.selection import (
    check_words,
    refuse_idle_parts,
    select_resources,
)
from dbt_orchestration.operations.form import RefusedError
from dbt_orchestration.settings.models import Job

__all__ = ["check_words", "choose", "choose_tests"]


def choose(dbt: DbtAssets, select: str, exclude: str = "") -> AbstractSet[str]:
    """The unique ids of the models, seeds and snapshots that are chosen.

    Raises:
        RefusedError: nothing is chosen.
        SettingsError: dbt does not understand the selection, or a part of it matches nothing; a
            name that is of nothing comes with the nearest.
    """
    chosen = select_resources("select", dbt.project, _chosen(dbt, select, exclude))
    if not (built := dbt.nodes.keys() & {*chosen}):
        without = f" without {exclude!r}" if exclude else ""
        raise RefusedError(f"select: {dbt.env.name} builds nothing of {select!r}{without}")
    return built


def choose_tests(dbt: DbtAssets, select: str, exclude: str = "") -> Collection[dg.AssetCheckKey]:
    """The tests that are chosen, or that are on what is chosen.

    Raises:
        RefusedError, SettingsError: as ``choose``.
    """
    chosen = select_resources("select", dbt.project, _chosen(dbt, select, exclude))
    if not (tests := sorted(key for key, u in dbt.checks.items() if u in chosen)):
        raise RefusedError(f"select: there is no test on {select!r}")
    return tests


def _chosen(dbt: DbtAssets, select: str, exclude: str) -> Job:
    if not select.split():
        raise RefusedError("select: write names of models, or a selection such as tag:finance")
    chosen = Job(select=select, exclude=exclude)
    refuse_idle_parts("", dbt.project, chosen)
    return chosen
