"""What Lightdash was told, and what it found, as Dagster shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.automation.lightdash.client import Broken, Step
from dbt_orchestration.automation.lightdash.telling import Telling
from dbt_orchestration.settings.lightdash import Lightdash

UP_TO_DATE, VALID = "is_up_to_date", "charts_are_valid"
EXPOSURE_VALID = "is_valid_in_lightdash"
_LISTED = 100


def told(lightdash: Lightdash, telling: Telling) -> dict[str, Any]:
    """Metadata of what was told, and how the refresh went."""
    page = f"{lightdash.url}/projects/{lightdash.project}/home"
    return {
        **telling.done,
        **({"steps": _steps(telling.steps)} if telling.steps else {}),
        "lightdash": dg.MetadataValue.url(page),
    }


def up_to_date(key: dg.AssetKey, lightdash: Lightdash, telling: Telling) -> dg.AssetCheckResult:
    """Whether Lightdash was told all, and if not, why."""
    problem = "; ".join(filter(None, [*telling.problems, telling.warning]))
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=UP_TO_DATE,
        passed=not problem,
        severity=dg.AssetCheckSeverity.ERROR if telling.problems else dg.AssetCheckSeverity.WARN,
        metadata={**({"problem": problem} if problem else {}), **told(lightdash, telling)},
    )


def valid(
    key: dg.AssetKey, check: str, lightdash: Lightdash, broken: Sequence[Broken]
) -> dg.AssetCheckResult:
    """Whether nothing is broken, and if not, what."""
    page = f"{lightdash.url}/generalSettings/projectManagement/{lightdash.project}/validator"
    rows = [
        (each.kind, f"[{each.name}]({each.link})" if each.link else each.name, each.error)
        for each in broken[:_LISTED]
    ]
    listed: Mapping[str, Any] = {"list": _table("what", "name", "problem", rows)} if rows else {}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not broken,
        metadata={"broken": len(broken), **listed, "validator": dg.MetadataValue.url(page)},
    )


def _steps(steps: Sequence[Step]) -> dg.MetadataValue[Any]:
    rows = [(step.label, step.status.lower(), step.error) for step in steps]
    return _table("step", "status", "error", rows)


def _table(
    first: str, second: str, third: str, rows: Sequence[tuple[str, str, str]]
) -> dg.MetadataValue[Any]:
    lines = [(first, second, third), ("---", "---", "---"), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in cells))
