"""A dbt command from the Launchpad: what builds becomes a run of assets, the rest runs here."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

import dagster as dg

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.markdown import code
from dbt_orchestration.operations.at_commit import revision_of
from dbt_orchestration.operations.chosen import check_words
from dbt_orchestration.operations.dbt_build import build
from dbt_orchestration.operations.dbt_clone import clone
from dbt_orchestration.operations.dbt_command import (
    BUILDS,
    CLONE,
    COMPILE,
    OPERATION,
    RETRY,
    SHOW,
    DbtForm,
    check,
)
from dbt_orchestration.operations.dbt_here import Here
from dbt_orchestration.operations.dbt_retry import retry
from dbt_orchestration.operations.dbt_shown import shown
from dbt_orchestration.operations.form import Answer, RefusedError, form_job, reason_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.runs.samples import is_marked

_MAY_DIFFER = (
    "What a macro does to tables is not on record: a table that it has changed differs from what"
    " its asset says, until it is built again."
)


def dbt_job(loaded: Loaded) -> dg.JobDefinition:
    """The form as a job."""

    def answer(instance: dg.DagsterInstance, form: DbtForm) -> Answer:
        at = loaded.newest(instance)
        check(at.name, form)
        if form.command in BUILDS:
            return build(at, instance, form)
        if form.command == RETRY:
            return retry(at, instance, form)
        if form.command == CLONE:
            return clone(at, instance, form)
        return _here(at, form)

    return form_job(
        loaded.name,
        "dbt",
        DbtForm,
        answer,
        "A dbt command without a terminal. What builds becomes a run of its own, and is recorded on"
        " its assets. What compile, show, list, source freshness, docs generate and run-operation"
        " find is shown on the run's page.",
        op="command",
        pool=loaded.settings.pool,
    )


def _here(at: Loaded, form: DbtForm) -> Answer:
    """What the form's own run does."""
    here = Here(at, revision_of(at, form.commit), form)
    manifest, rows = here.revision.manifest, at.settings.environment(at.name).failed_rows
    check_words(manifest, "select", form.select)
    check_words(manifest, "exclude", form.exclude)
    reason = reason_of(form.reason, needed=form.command == OPERATION)
    if form.command == OPERATION:
        _check_macro(manifest, form.macro)
    if form.command == SHOW and not rows.enabled:
        said = "failed_rows.enabled is false in the environment's settings"
        raise RefusedError(f"command: rows are not to be shown ({said})")
    what = form.macro or form.select or ("a query" if form.inline else "")
    why = f"dbt {form.command} {what}".strip() + (f": {reason}" if reason else "")
    commit = here.revision.commit
    plan = code(here.command) + (f"\n\nat {commit.short}" if commit else "")
    if form.only_shows:
        return Answer(plan, f"what would be run: {why}")
    then = _MAY_DIFFER if form.command == OPERATION else "It has run."
    return Answer(plan, why, then, act=partial(_run, here, rows.hidden_by))


def _check_macro(manifest: Mapping[str, Any], wanted: str) -> None:
    kind = manifest["metadata"].get("adapter_type")
    own = {
        name
        for macro in manifest["macros"].values()
        if macro["package_name"] not in ("dbt", f"dbt_{kind}")
        for name in (macro["name"], f"{macro['package_name']}.{macro['name']}")
    }
    if wanted not in own:
        near = get_close_matches(wanted, sorted(own), n=1)
        raise RefusedError(
            f"macro: the project and its packages have no macro {wanted!r}"
            + (f": did you mean {near[0]}?" if near else "")
        )


def _run(here: Here, hidden_by: str, context: dg.OpExecutionContext) -> Mapping[str, Any]:
    done = here.run(context)
    if here.form.command in {SHOW, COMPILE} and not done.result.results:
        chosen = repr(here.form.select)
        chosen += f" without {here.form.exclude!r}" if here.form.exclude else ""
        raise PlainFailure(f"select: {chosen} matches nothing", allow_retries=False)
    if here.form.command == SHOW:
        _refuse_hidden(here.revision.manifest, done.result, hidden_by)
    return {
        "result": dg.MetadataValue.md(shown(here.form.command, done.result, done.logged)),
        "artifacts": dg.MetadataValue.path(done.folder),
    }


def _refuse_hidden(manifest: Mapping[str, Any], result: Any, key: str) -> None:
    """Do not show the rows of what is marked with ``key``: see the settings of failed rows."""
    every = {**manifest["nodes"], **manifest["sources"]}
    for each in result.results:
        own = each.node.unique_id
        for u in [own] if own in every else each.node.depends_on.nodes:  # of a query: what it reads
            if u in every and is_marked(every[u], key):
                raise PlainFailure(
                    f"select: {every[u]['name']} has {key}, so none of its rows are shown",
                    allow_retries=False,
                )
