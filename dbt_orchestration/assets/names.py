"""Names that Dagster takes, for whatever a dbt project calls its nodes and tests.

Dagster's names consist of ASCII letters, digits and ``_``; dbt's of anything that a file, or a
YAML value, can be called. A name that Dagster takes stays as it is. In any other one each
run of other characters becomes ``_``, and a digest of the whole name follows, so that two names
never become one. Asset keys stay as they are: only what Dagster derives from them is mapped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

from dbt_orchestration.changes.terms import digest
from dbt_orchestration.dbt.groups import NOT_IN_NAMES

_LENGTH = 8


def distinct_checks(checks: Sequence[dg.AssetCheckSpec]) -> Sequence[dg.AssetCheckSpec]:
    """The same checks; those of one asset that have one name get the end of dbt's unique id."""
    count = Counter(check.key for check in checks)
    return [
        check._replace(name=f"{check.name}_{_end(check.metadata)}")
        if count[check.key] > 1
        else check
        for check in checks
    ]


def _end(metadata: Mapping[str, Any] | None) -> str:
    unique_id = str((metadata or {}).get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, ""))
    return digest(unique_id)[:_LENGTH]


@dataclass(frozen=True)
class StandIns:
    """Assets and checks as they can be defined: Dagster names their outputs by the assets' keys.

    Attributes:
        keys: the asset's own key, by the one that it is defined under.
    """

    specs: Sequence[dg.AssetSpec]
    checks: Sequence[dg.AssetCheckSpec]
    keys: Mapping[dg.AssetKey, dg.AssetKey]

    @classmethod
    def of(cls, specs: Sequence[dg.AssetSpec], checks: Sequence[dg.AssetCheckSpec]) -> StandIns:
        """Another key for each asset whose own gives no valid name, or not one of its own."""
        named = {spec.key: {spec.key.to_python_identifier()} for spec in specs}
        for check in checks:
            named.setdefault(check.asset_key, set()).add(check.get_python_identifier())
        count = Counter(name for names in named.values() for name in names)
        others = {
            key: _stand_in(key)
            for key, names in named.items()
            if any(count[name] > 1 or NOT_IN_NAMES.search(name) for name in names)
        }
        return cls(
            [
                spec.replace_attributes(
                    key=others.get(spec.key, spec.key),
                    deps=[
                        d._replace(asset_key=others.get(d.asset_key, d.asset_key))
                        for d in spec.deps
                    ],
                )
                for spec in specs
            ],
            [
                check.replace_key(
                    dg.AssetCheckKey(others.get(check.asset_key, check.asset_key), check.name)
                )._replace(
                    additional_deps=[
                        d._replace(asset_key=others.get(d.asset_key, d.asset_key))
                        for d in check.additional_deps
                    ]
                )
                for check in checks
            ],
            {other: key for key, other in others.items()},
        )


def _stand_in(key: dg.AssetKey) -> dg.AssetKey:
    plain = [NOT_IN_NAMES.sub("_", part) for part in key.path]
    return dg.AssetKey([*plain[:-1], f"{plain[-1]}_{digest(key.to_user_string())[:_LENGTH]}"])
