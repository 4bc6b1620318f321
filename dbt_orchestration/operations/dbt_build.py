"""dbt commands that build nodes or run tests: each is a run of assets, as any other."""

from __future__ import annotations

import dagster as dg

from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.held import paused
from dbt_orchestration.markdown import inline
from dbt_orchestration.operations.asked import asks_for
from dbt_orchestration.operations.at_commit import at_another, let_runs_have, revision_of
from dbt_orchestration.operations.chosen import choose, choose_tests
from dbt_orchestration.operations.dbt_command import BUILDS, TEST, DbtForm
from dbt_orchestration.operations.form import Answer, RefusedError, reason_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.runs.config import BuildConfig
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.types import named


def build(newest: Loaded, instance: dg.DagsterInstance, form: DbtForm) -> Answer:
    """What is chosen, at the newest commit that is loaded; or at another one, while that lasts.

    Raises:
        RefusedError: nothing is chosen, or the environment would not stay at another commit.
    """
    reason = reason_of(form.reason)
    revision = revision_of(newest, form.commit)
    is_other = revision.digest != newest.revision.digest
    at = newest.at(revision) if is_other else newest
    if is_other:
        _refuse_what_would_not_stay(newest, instance)
    request = _request(at, form)
    text = f"{preview(at.dbt, instance, request)}\n\nReason: {inline(reason)}"
    said = f"dbt {form.command} {form.select}"
    if is_other:
        assert revision.commit is not None
        said += f" at {revision.commit.short}"
        request = at_another(newest, at, request)
    if is_other and not form.only_shows:
        let_runs_have(at, instance)
    return asks_for(newest.dbt, request, text, said, reason, only_shows=form.only_shows)


def _request(at: Loaded, form: DbtForm) -> BuildRequest:
    if form.command == TEST:
        tests = choose_tests(at.dbt, form.select, form.exclude)
        return BuildRequest((), tests, BuildConfig(vars=form.vars))
    kinds, only = BUILDS[form.command], form.command != "build"
    config = BuildConfig(full_refresh=form.full_refresh, vars=form.vars, exclude_tests=only)
    chosen = choose(at.dbt, form.select, form.exclude)
    nodes = {u for u in chosen if at.dbt.manifest["nodes"][u]["resource_type"] in kinds}
    if not nodes:
        what = f"builds {' and '.join(kinds)}s, and {form.select!r} has none"
        raise RefusedError(f"select: dbt {form.command} {what}")
    return BuildRequest.of_nodes(at.dbt, nodes, Order(), config=config)


def _refuse_what_would_not_stay(newest: Loaded, instance: dg.DagsterInstance) -> None:
    """The push sensor builds back whatever is not as the newest commit says."""
    follows = newest.settings.environment(newest.name).push.enabled
    if follows and not paused(instance, newest.name):
        raise RefusedError(
            f"commit: {newest.name} follows {newest.branch}, and would be built back within"
            f" seconds: launch {named(newest.name, 'pause')} first, or have all of it at that"
            f" commit with {named(newest.name, 'roll_back')}"
        )
