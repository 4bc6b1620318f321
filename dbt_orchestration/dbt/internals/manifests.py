"""What the next dbt command does with the nodes of a parsed project, beyond dbt's options.

``tests/test_dbt_internals.py`` holds a contract test for each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


def set_batches(
    manifest: Any, unique_id: str, batches: Sequence[tuple[datetime, datetime]]
) -> None:
    """Make dbt run exactly these batches of a microbatch model, in this order.

    This is the door that ``dbt retry`` uses. ``--event-time-start`` and ``--event-time-end`` give
    all models one contiguous window, which is not enough when a daily and a monthly model build
    their newest partition, or when only some partitions are missing.
    """
    from dbt.artifacts.schemas.batch_results import BatchResults

    manifest.nodes[unique_id].previous_batch_results = BatchResults(failed=list(batches))


def select_exactly(manifest: Any, unique_ids: Collection[str]) -> None:
    """Make the next dbt command on this manifest select exactly these nodes and tests.

    ``--select`` takes names, of which several nodes may have the same: a model called as its
    folder, one with dots, two packages, the unit tests of two versions.
    """
    from dbt.graph.selector import NodeSelector

    manifest.dbt_orchestration_selected = frozenset(unique_ids)
    select = NodeSelector.get_selected
    if getattr(select, "exactly", False):
        return

    def get_selected(self: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = getattr(self.manifest, "dbt_orchestration_selected", None)
        if wanted is None:
            return select(self, *args, **kwargs)
        return self.filter_selection(wanted & set(self.graph.nodes()))

    get_selected.exactly = True  # type: ignore[attr-defined]
    NodeSelector.get_selected = get_selected


def set_full_refresh(manifest: Any, unique_id: str, value: bool) -> None:
    """Make dbt rebuild a model's table from nothing, or add to it, whatever its flags say."""
    manifest.nodes[unique_id].config.full_refresh = value


def set_warehouse(manifest: Any, unique_id: str, warehouse: str) -> None:
    """Make dbt-snowflake build a model on another warehouse than the model or the target names."""
    manifest.nodes[unique_id].config["snowflake_warehouse"] = warehouse


def set_seed_folders(manifest: Any, folders: Mapping[str, Path]) -> None:
    """Tell dbt where each package's seeds lie: it remembers where they lay when it parsed."""
    for node in manifest.nodes.values():
        if node.resource_type == "seed" and node.package_name in folders:
            node.root_path = str(folders[node.package_name])


def set_alias(manifest: Any, unique_id: str, alias: str) -> None:
    """Make dbt build a model, and read it, under another name in the same schema."""
    node = manifest.nodes[unique_id]
    before, _, after = (node.relation_name or "").rpartition(node.alias)
    node.relation_name = f"{before}{alias}{after}"
    node.alias = alias
    node.config.alias = alias


def has_pointer(manifest: Any, unique_id: str) -> bool:
    """Whether dbt, since 1.12, makes a view that points at a model, which is its latest version.

    The project's flag for that is the one that the last dbt command of this process read.
    """
    from dbt.flags import get_flags

    pointer = getattr(manifest.nodes[unique_id].config, "latest_version_pointer", None)
    if pointer is None or pointer.enabled is not None:
        return bool(pointer and pointer.enabled)
    return bool(getattr(get_flags(), "latest_version_pointer_enabled_by_default", False))


def leave_pointer(manifest: Any, unique_id: str) -> None:
    """Make dbt build a model, and leave the view that points at it as it is."""
    pointer = getattr(manifest.nodes[unique_id].config, "latest_version_pointer", None)
    if pointer is not None:
        pointer.enabled = False


def take_as_built(manifest: Any, unique_id: str, materialization: str) -> None:
    """Make dbt take a model's table as it stands, and do only what follows a build.

    Args:
        materialization: one that does nothing.
    """
    node = manifest.nodes[unique_id]
    node.config.materialized = materialization
    node.raw_code = "select 1 as one"  # what it reads need not be there


def add_macros(manifest: Any, path: Path) -> None:
    """Give dbt the macros of a file, beside its own; the project's cannot be hidden by them."""
    from dbt.artifacts.resources.types import NodeType
    from dbt.contracts.graph.nodes import Macro
    from dbt_common.clients.jinja import extract_toplevel_blocks

    for block in extract_toplevel_blocks(
        path.read_text(), allowed_blocks={"macro"}, collect_raw_data=False
    ):
        unique_id = f"macro.dbt.{block.block_name}"
        manifest.macros[unique_id] = Macro(
            name=block.block_name,
            resource_type=NodeType.Macro,
            package_name="dbt",
            path=path.name,
            original_file_path=str(path),
            unique_id=unique_id,
            macro_sql=block.full_block,
        )


def make_batches_atomic(manifest: Any) -> None:
    """Make dbt-snowflake replace the rows of a batch in one transaction.

    Its own macro deletes and inserts, each committed by itself, so that somebody who reads in
    between misses the batch. That of ``delete+insert`` has the transaction.
    """
    macro = manifest.macros.get("macro.dbt_snowflake.snowflake__get_incremental_microbatch_sql")
    if macro is None:
        return
    head, body = macro.macro_sql.split("%}", 1)
    body, tail = body.rsplit("{%", 1)
    if "explicit_transaction" in body:
        return
    macro.macro_sql = (
        f"{head}%}}{{% set dml %}}{body}{{% endset %}}"
        "{{ return(snowflake_dml_explicit_transaction(dml)) }}"
        f"{{%{tail}"
    )
