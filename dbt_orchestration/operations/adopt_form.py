"""Beginning with a full warehouse: a form that lets what is there be recorded as built.

It shows what is there, and whether that fits the commit that is loaded. A run that builds nothing
then looks again, and records what fits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import dagster as dg
from pydantic import Field

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.selection import refuse_idle_parts, select_resources
from dbt_orchestration.history.order import Order
from dbt_orchestration.operations.asked import asked_sensor_name
from dbt_orchestration.operations.at_commit import (
    COMMIT,
    at_another,
    let_runs_have,
    revision_of,
    why_unknown,
)
from dbt_orchestration.operations.form import NOT_YET, Answer, RefusedError, form_job, reason_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.revisions.warehouse import is_in_use
from dbt_orchestration.runs.adoption import how_it_stands, never_built
from dbt_orchestration.runs.fitting import Fit, fits
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.models import Job

_EVERYTHING = "fqn:*"


class AdoptForm(dg.Config):
    """What to take for built."""

    select: str = Field(
        default="",
        description="dbt selection, for example '+tag:finance'. Empty: all that Dagster has never"
        " built.",
    )
    exclude: str = Field(default="", description="dbt selection of what to leave out.")
    commit: str = Field(
        default="", description=f"What has built it. {COMMIT} What has changed since is due then."
    )
    compare_rows: bool = Field(
        default=False,
        description="Count the rows of each relation, and those that its code makes. That takes a"
        " query of each model.",
    )
    reason: str = Field(default="", description="Why, for whoever looks at it later.")
    dry_run: bool = Field(
        default=True, description="True: only show what fits. False: record it as built."
    )


def adopt_job(loaded: Loaded) -> dg.JobDefinition:
    """The form as a job."""
    environment = loaded.name

    def answer(instance: dg.DagsterInstance, form: AdoptForm) -> Answer:
        words = "say why, for whoever looks at it later"
        reason = reason_of(form.reason, words, needed=not form.dry_run)
        newest = loaded.newest(instance)
        revision = revision_of(newest, form.commit)
        is_other = revision.digest != newest.revision.digest
        at = newest.at(revision) if is_other else newest
        env = at.dbt.env
        nodes = _chosen(at.dbt, instance, form)
        adapters.close_duckdb()  # what this process itself has open is in no use
        if is_in_use(env.target):
            raise RefusedError(
                f"a run of {environment}, or somebody else, has the DuckDB file open: launch this"
                " again when that has ended"
            )
        scratch = str(env.settings.state_dir / "target" / f"{environment}_adopt")
        stands = how_it_stands(env, instance)
        try:
            found = fits(env, instance, nodes, stands, scratch, compare_rows=form.compare_rows)
        except DbtError as error:
            raise RefusedError(f"the warehouse cannot be compared: {error}") from None
        finally:
            adapters.close_duckdb()
        found = {u: _as_known(newest, at, u, fit) for u, fit in found.items()}
        adopted = [u for u, fit in found.items() if not fit.why]
        shown = _shown(at, found, rows=form.compare_rows)
        metadata = {"adopted": len(adopted), "due": len(found) - len(adopted)}
        if form.dry_run or not adopted:
            said = NOT_YET if form.dry_run else "Nothing was started: nothing fits."
            return Answer(shown, "what could be adopted", said, metadata=metadata)
        now = env.revision.fingerprints
        order = Order(adopt={u: now[u] for u in adopted}, compare_rows=form.compare_rows)
        request = BuildRequest.of_nodes(at.dbt, adopted, order)
        if is_other:
            request = at_another(newest, at, request)
            let_runs_have(at, instance)
        return Answer(
            shown,
            f"adopts {len(adopted)} of {len(found)}: {reason}",
            f"The sensor {asked_sensor_name(environment)} starts within seconds a run that builds"
            " nothing, looks again, and records what still fits: see Runs.",
            request.as_tags(newest.dbt),
            metadata,
        )

    return form_job(
        environment,
        "adopt",
        AdoptForm,
        answer,
        "Take what is in the warehouse for built by a commit, where it fits, so that nothing of it"
        " is built again. Only shows what fits while dry_run is set.",
        op="what_is_there",
    )


def _chosen(dbt: DbtAssets, instance: dg.DagsterInstance, form: AdoptForm) -> Collection[str]:
    """What is selected, and was never built here."""
    unknown = never_built(dbt.env, instance)
    if not unknown:
        raise RefusedError(f"everything of {dbt.env.name} was built, or adopted, already")
    chosen = Job(select=form.select or _EVERYTHING, exclude=form.exclude)
    refuse_idle_parts("", dbt.project, chosen)
    selected = select_resources("select", dbt.project, chosen)
    if not unknown & {*selected}:
        raise RefusedError(
            f"select: {chosen.select!r} matches nothing, or only what was built already"
        )
    return unknown & {*selected}


def _as_known(newest: Loaded, at: Loaded, unique_id: str, fit: Fit) -> Fit:
    """What fits, unless the newest commit, whose assets there are, does not know it so."""
    return replace(fit, why=fit.why or why_unknown(newest, at, at.dbt.keys[unique_id]))


def _shown(at: Loaded, found: Mapping[str, Fit], *, rows: bool) -> str:
    commit = at.revision.commit
    title = f"{commit.short} “{commit.subject}”" if commit else "the project as it lies"
    adopted = sum(not fit.why for fit in found.values())
    heads = ["node", "there", "columns", *(["rows"] if rows else []), "what follows"]
    lines = [
        f"{adopted} of {len(found)} are there and fit {title}: they can be recorded as built by it."
        f" The other {len(found) - adopted} stay due.\n",
        f"| {' | '.join(heads)} |",
        f"|{' --- |' * len(heads)}",
    ]
    for u, fit in found.items():
        counted = [fit.rows] if rows else []
        there = "yes" if fit.there else "no"
        cells = [at.dbt.keys[u].path[-1], there, fit.columns, *counted, _follows(fit)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(at.dbt, found)])


def _follows(fit: Fit) -> str:
    if fit.why:
        return f"due: {fit.why}"
    if not fit.partitions:
        return "adopted"
    said = f"adopted: {_span(fit.partitions)}"
    return f"{said}; due: {_span(fit.missing)}" if fit.missing else said


def _span(keys: Sequence[str]) -> str:
    if len(keys) == 1:
        return f"the partition {keys[0]}"
    return f"{len(keys):,} partitions, {keys[0]} to {keys[-1]}"


def _notes(dbt: DbtAssets, found: Mapping[str, Fit]) -> Iterator[str]:
    nodes = dbt.env.nodes
    for u, fit in found.items():
        if fit.partitions and not nodes[u]["config"].get("event_time"):
            yield (
                f"{nodes[u]['name']}: of which partition a row is, nobody knows, as it says no"
                " event_time. All of its partitions up to now are taken for built.\n"
            )
    if any(fit.missing for fit in found.values()):
        yield (
            "A partition without rows counts as missing, unless compare_rows shows that its code"
            " makes none.\n"
        )
