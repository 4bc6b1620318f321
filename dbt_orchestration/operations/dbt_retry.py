"""dbt retry as a form: a run that goes on from one that did not succeed."""

from __future__ import annotations

import re
import time
from typing import Any

import dagster as dg

from dbt_orchestration.history.order import Order
from dbt_orchestration.history.request import going_on_from
from dbt_orchestration.ledger.attempts import is_going_on
from dbt_orchestration.ledger.run_tags import (
    COMMIT_TAG,
    ENVIRONMENT_TAG,
    FORM_TAG,
    PUSH_TAG,
    WHY_TAG,
)
from dbt_orchestration.ledger.unfinished import Unfinished, attempts_with
from dbt_orchestration.markdown import inline
from dbt_orchestration.operations.asked import asks_for
from dbt_orchestration.operations.dbt_command import RETRY, DbtForm
from dbt_orchestration.operations.form import Answer, RefusedError, reason_of
from dbt_orchestration.operations.left_shown import refuse_twice, what_happened
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.runs.config import BuildConfig
from dbt_orchestration.runs.request import BuildRequest

_RECENT = 1_000
_ID = re.compile(r"[0-9a-f-]{4,36}")
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def retry(at: Loaded, instance: dg.DagsterInstance, form: DbtForm) -> Answer:
    """What is left of a run, as a run that goes on from it, on the newest commit that is loaded.

    Raises:
        RefusedError: there is no such run, it goes on, or what is left is being built.
    """
    reason = reason_of(form.reason)
    unfinished = _last_failed(at, instance) if not form.run.strip() else _named(at, instance, form)
    last = unfinished.attempts[-1].dagster_run
    which = f"run {last.run_id[:8]}"
    if is_going_on(instance, last, time.time()):
        raise RefusedError(f"run: {which} still goes on: wait until it has ended")
    if last.status is dg.DagsterRunStatus.SUCCESS:
        raise RefusedError(f"run: {which} has succeeded: nothing of it is left")
    left = unfinished.left(goes_on=True)
    if not left:
        raise RefusedError(f"run: all that {which} did not build was built since")
    refuse_twice(at, instance, left)
    pushed = {tag: last.tags[tag] for tag in (PUSH_TAG,) if tag in last.tags}
    request = BuildRequest.of_nodes(
        at.dbt,
        left.nodes,
        Order.of_tags(last.tags),
        left.checks,
        config=_config(at, last),
        tags={**pushed, **going_on_from(last.run_id, last.tags)},
    )
    begun = f"{which[0].upper()}{which[1:]} ({_said(last)})"
    text = "\n\n".join(
        [
            *what_happened(at, begun, left),
            preview(at.dbt, instance, request, unfinished.attempts),
            f"Reason: {inline(reason)}",
        ]
    )
    said = f"dbt {RETRY} of {which}"
    return asks_for(at.dbt, request, text, said, reason, only_shows=form.only_shows)


def _last_failed(at: Loaded, instance: dg.DagsterInstance) -> Unfinished:
    """The last run that did not succeed, of those that were to build some of what there is."""
    wanted = dg.RunsFilter(tags={ENVIRONMENT_TAG: at.name}, statuses=_FAILED)
    for run in instance.get_runs(wanted, limit=_RECENT):
        if FORM_TAG not in run.tags:
            found = Unfinished(instance, at.dbt, attempts_with(instance, run))
            if not found.is_empty:
                return found
    raise RefusedError(f"run: no build of {at.name} has failed lately")


def _named(at: Loaded, instance: dg.DagsterInstance, form: DbtForm) -> Unfinished:
    said = form.run.strip().lower()
    if not _ID.fullmatch(said):
        raise RefusedError(f"run: {form.run!r} is no id of a run, nor the beginning of one")
    runs = [
        run
        for run in instance.get_runs(dg.RunsFilter(tags={ENVIRONMENT_TAG: at.name}), limit=_RECENT)
        if run.run_id.startswith(said)
    ]
    if len(runs) != 1:
        some = f"{len(runs)} runs begin" if runs else f"none of {at.name}'s last runs begins"
        more = "write more of it" if runs else "see Runs for the id, or leave it empty"
        raise RefusedError(f"run: {some} with {said}: {more}")
    found = Unfinished(instance, at.dbt, attempts_with(instance, runs[0]))
    if FORM_TAG in runs[0].tags or found.is_empty:
        raise RefusedError(
            f"run: {said} has built no model, seed or snapshot of {at.name}: launch"
            f" {runs[0].job_name} again"
        )
    return found


def _config(at: Loaded, run: dg.DagsterRun) -> BuildConfig:
    """What the run's Launchpad said."""
    said: Any = run.run_config
    op = (said.get("ops") or {}).get(at.dbt.definition.op.name) or {}
    return BuildConfig(**(op.get("config") or {}))


def _said(run: dg.DagsterRun) -> str:
    return run.tags.get(WHY_TAG) or run.tags.get(COMMIT_TAG) or run.job_name
