"""dbt commands that build nodes or run tests: each is a run of assets, as any other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import dagster as dg

from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.held import paused
from dbt_orchestration.ledger.run_tags import run_tags
from dbt_orchestration.markdown import inline
from dbt_orchestration.operations.asked import asked_sensor_name
from dbt_orchestration.operations.chosen import choose, choose_tests
from dbt_orchestration.operations.dbt_command import BUILDS, TEST, DbtForm
from dbt_orchestration.operations.form import Answer, RefusedError, reason_of
from dbt_orchestration.operations.hold_form import find_commit_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.revisions.store import upload
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
        request = _at_another(newest, at, request)
    if form.dry_run:
        return Answer(text, f"what {said} would do")
    storage = instance.defs_state_storage
    if is_other and storage:
        upload(at.name, revision, storage)
    return Answer(
        text,
        f"wants {said}: {reason}",
        f"The sensor {asked_sensor_name(at.name)} starts it within seconds as a run of its own:"
        " see Runs.",
        request.as_tags(newest.dbt),
    )


def revision_of(at: Loaded, said: str) -> Revision:
    """The revision of the commit that is wanted, which is prepared if it was not yet.

    Raises:
        RefusedError: the branch has none.
        GitError, PrepareError: it cannot be fetched, or does not parse.
    """
    said, newest = said.strip(), at.revision
    if not said:
        return newest
    settings, pattern = at.settings, at.settings.git.ticket_pattern
    remote = Remote.of(settings)
    recent = remote.recent(remote.fetch(at.branch))
    commit = find_commit_of(recent, said, at.branch, pattern, show="write another one")
    if newest.commit and newest.commit.sha == commit.sha:
        return newest
    return prepare_commit(settings, at.name, commit.sha, check=at.check)


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


def _at_another(newest: Loaded, at: Loaded, request: BuildRequest) -> BuildRequest:
    """The request, for a run that knows only the assets and the tests of the newest commit.

    Raises:
        RefusedError: an asset is not there, or has other partitions there.
    """
    here, there = at.dbt.definition.specs_by_key, newest.dbt.definition.specs_by_key
    _refuse(newest, request.assets - there.keys(), "is not in the newest commit")
    others = {k for k in request.assets if here[k].partitions_def != there[k].partitions_def}
    _refuse(newest, others, "has other partitions in the newest commit")
    known = {spec.key for spec in newest.dbt.definition.check_specs}
    order = replace(request.order, revision=at.revision.digest)
    checks = {*request.checks} & known
    tags = run_tags(at.name, at.revision)
    return replace(request, checks=checks, order=order, tags=tags)


def _refuse(newest: Loaded, assets: Collection[dg.AssetKey], why: str) -> None:
    if assets:
        names = ", ".join(sorted(key.path[-1] for key in assets))
        raise RefusedError(
            f"select: {names} {why}: launch {named(newest.name, 'roll_back')} instead"
        )
