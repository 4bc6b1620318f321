"""What Lightdash does not know yet: what stands now, compared with what it was told last.

Nothing remembers runs or commits. Dagster's event log says what was built, and with the asset
``lightdash`` what was told; the difference is told, whoever built it, and once it can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.changes.terms import digest, digest_value
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.attempts import unfinished_runs
from dbt_orchestration.ledger.due import Ledger
from dbt_orchestration.ledger.recorded import last_build
from dbt_orchestration.settings.models import Settings

TOLD = "dbt/told"
# Lightdash reads it together with dbt_project.yml, beside which it lies.
_FILE = "lightdash.config.yml"
_KINDS = ("model", "seed", "snapshot")
_OF_NODE = (
    *("name", "database", "schema", "alias", "relation_name", "description", "columns", "meta"),
    *("tags", "group", "version"),
)
_OF_CONFIG = ("materialized", "meta", "tags", "snowflake_warehouse", "databricks_compute")
_OTHERS = ("metrics", "semantic_models", "exposures")


@dataclass(frozen=True)
class Told:
    """What Lightdash knows.

    Attributes:
        fields: the digest of what its tables and fields were made from.
        valid: the same, as it was when its charts were last validated.
        place: in the event log, up to which its results cache knows of no older tables.
    """

    fields: str = ""
    valid: str = ""
    place: int = 0

    @classmethod
    def last(cls, instance: dg.DagsterInstance, key: dg.AssetKey) -> Told:
        """As the last materialization of the asset ``key`` says."""
        event = instance.get_latest_materialization_event(key)
        said = event and event.asset_materialization
        value = said.metadata.get(TOLD) if said else None
        if not isinstance(value, dg.JsonMetadataValue):
            return cls()
        return cls(**cast("dict[str, Any]", value.value))

    def metadata(self) -> Mapping[str, dg.MetadataValue[Any]]:
        """For such a materialization."""
        return {TOLD: dg.MetadataValue.json(asdict(self))}


@dataclass(frozen=True)
class News:
    """What there is to tell.

    Attributes:
        told: what Lightdash knows.
        now: what it is to know.
        tables: how many tables were built since its results cache was emptied.
        waits: what its fields wait for; "" if nothing.
        building: whether that is a run.
        everything: all is to be told again.
    """

    told: Told
    now: Told
    tables: int
    waits: str = ""
    building: bool = False
    everything: bool = False

    def __bool__(self) -> bool:
        return self.refresh or self.empty or self.validate

    @property
    def refresh(self) -> bool:
        """Whether its fields are others."""
        return self.everything or self.told.fields != self.now.fields

    @property
    def empty(self) -> bool:
        """Whether its results cache has results of older tables."""
        return self.everything or self.told.place != self.now.place

    @property
    def validate(self) -> bool:
        """Whether its charts were validated with other fields."""
        return self.everything or self.told.valid != self.now.valid


@dataclass(frozen=True)
class Reporter:
    """Looks for news of an environment at a revision.

    Attributes:
        key: the asset that says what was told.
    """

    settings: Settings
    environment: str
    revision: Revision
    dbt: DbtAssets
    key: dg.AssetKey

    def news(self, instance: dg.DagsterInstance, *, everything: bool = False) -> News:
        """What there is to tell.

        Args:
            everything: all of it again, and without waiting for anything.
        """
        told = Told.last(instance, self.key)
        keys = list(self.dbt.nodes.values())
        places = [
            last.storage_id
            for record in instance.get_asset_records(keys)
            if (last := last_build(instance, record))
        ]
        place = max([told.place, *places])
        tables = sum(built > told.place for built in places)
        ledger = Ledger(self.settings, self.environment, instance, self.revision, self.dbt)
        waits, fields = "", told.fields
        building = ledger.building(keys, unfinished_runs(instance))
        if building and not everything:
            waits = f"run {building[0].run_id[:8]} to end"
        elif told.fields != self._reads:  # else they are as nothing that is due could make them
            waits, fields = self._fields(ledger, told, everything)
        now = Told(fields, fields, place)
        is_building = bool(building) and not everything
        return News(told, now, tables, waits, is_building, everything)

    def _fields(self, ledger: Ledger, told: Told, everything: bool) -> tuple[str, str]:
        """What to wait for, if anything, and the digest of Lightdash's fields."""
        due = ledger.due(lambda _: True)
        assert due is not None
        if self.settings.environment(self.environment).push.enabled and not everything:
            coming = ledger.not_tried(due)
            if coming.nodes:
                return f"{coming.count} to be built", told.fields
        # Of these Lightdash sees in the warehouse what another commit has left.
        unbuilt = sorted({*due.nodes, *due.waiting})
        return "", digest(self._reads, *unbuilt) if unbuilt else self._reads

    @cached_property
    def _reads(self) -> str:
        """The digest of what Lightdash makes its tables and fields from."""
        manifest, columns = self.revision.manifest, self.revision.columns
        lightdash = self.settings.environment(self.environment).lightdash
        nodes = [
            [
                unique_id,
                [node.get(key) for key in _OF_NODE],
                [node["config"].get(key) for key in _OF_CONFIG],
                (node.get("depends_on") or {}).get("nodes"),
                # Their types are the warehouse's.
                columns.get(unique_id),
            ]
            for unique_id, node in sorted(manifest["nodes"].items())
            if node["resource_type"] in _KINDS
        ]
        others = [
            [unique_id, {key: value for key, value in each.items() if key != "created_at"}]
            for kind in _OTHERS
            for unique_id, each in sorted((manifest.get(kind) or {}).items())
        ]
        file = self.revision.project_dir / _FILE
        said = file.read_bytes().hex() if file.is_file() else ""
        place = [lightdash.url, lightdash.project] if lightdash else []
        return digest_value([place, nodes, others, said])
