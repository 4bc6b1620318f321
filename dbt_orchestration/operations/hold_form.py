"""Rolling back: a form that holds an environment at an older commit, and one that releases it.

Neither builds anything. While an environment is held, its push sensor takes the held commit for the
branch's newest: so it is prepared, loaded, compared and built as any push is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

import dagster as dg
from pydantic import Field

from dbt_orchestration.dbt.parse import Commit, Revision
from dbt_orchestration.ledger.held import held, hold_tags, no_hold_tags, release_tags
from dbt_orchestration.ledger.pushes import about_commit
from dbt_orchestration.ledger.run_tags import PUSH_TAG, TICKET_TAG, shortened
from dbt_orchestration.markdown import inline, link, table
from dbt_orchestration.operations.form import (
    FOR_PUSHES,
    NOT_YET,
    Answer,
    RefusedError,
    form_job,
    reason_of,
)
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.revisions.explanation import Recorded, explain
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.runs.request import BuildRequest, order_of
from dbt_orchestration.settings.types import named

_SHOWN = 20
_SHA = re.compile(r"[0-9a-f]{4,40}")


class RollBackForm(dg.Config):
    """Where to."""

    commit: str = Field(
        default="",
        description="A commit of the branch: its SHA, the beginning of that, or a ticket that its"
        " message names, such as DATA-123. In quotes if it is a number. Empty: show the recent"
        " commits, and start nothing.",
    )
    until: Literal["released", "next_push"] = Field(
        default="released",
        description="released: it stays there until somebody rolls forward. next_push: or until the"
        " branch has another commit.",
    )
    reason: str = Field(default="", description="Why. Everybody who looks at a push reads it.")
    dry_run: bool = Field(
        default=True, description="True: only show what it would build. False: do it."
    )


class RollForwardForm(dg.Config):
    """Follow the branch again."""

    reason: str = Field(default="", description="Why, for whoever looks at it later.")
    dry_run: bool = Field(
        default=False, description="True: only show what it would build. False: do it."
    )


def roll_back_job(loaded: Loaded) -> dg.JobDefinition:
    """The form that holds an environment at a commit."""
    environment, branch = loaded.name, loaded.branch

    def answer(instance: dg.DagsterInstance, form: RollBackForm) -> Answer:
        remote = Remote.of(loaded.settings)
        newest = remote.fetch(branch)
        recent = remote.recent(newest)
        if not form.commit.strip():
            said = "Nothing was started: write one of them as commit, and launch it again."
            shown = _table(recent[:_SHOWN])
            return Answer(shown, f"the recent commits of {branch}", said, no_hold_tags())
        pattern = loaded.settings.git.ticket_pattern
        commit = find_commit_of(recent, form.commit.strip(), branch, pattern)
        reason = reason_of(form.reason, FOR_PUSHES, needed=not form.dry_run)
        revision = prepare_commit(loaded.settings, environment, commit.sha, check=loaded.check)
        plan = f"{_title(commit)}\n\n{_plan(loaded, revision, instance)}"
        facts = about_commit(commit)
        if form.dry_run:
            why = f"what it would take to roll back to {commit.short}"
            return Answer(plan, why, NOT_YET, no_hold_tags(), facts)
        head = newest.sha if form.until == "next_push" else ""
        push = f"{branch} has another commit, or until " if head else ""
        return Answer(
            plan,
            f"holds {environment} at {commit.short}: {reason}",
            f"The sensor {named(environment, 'push')} loads and builds it within seconds. It stays"
            f" there until {push}the job {named(environment, 'roll_forward')} is launched.",
            {
                **hold_tags(environment, commit.sha, head, reason),
                # A form that is launched again has the ticket that it was left with.
                TICKET_TAG: shortened(commit.ticket),
            },
            facts,
            by_push=True,
        )

    return form_job(
        environment,
        "roll_back",
        RollBackForm,
        answer,
        f"Roll back to an older commit of {branch}, and stay there. Shows the recent commits if"
        " none is named, and only shows what it would build while dry_run is set.",
        op="hold",
    )


def roll_forward_job(loaded: Loaded) -> dg.JobDefinition:
    """The form that releases an environment that is held."""
    environment, branch = loaded.name, loaded.branch

    def answer(instance: dg.DagsterInstance, form: RollForwardForm) -> Answer:
        if (hold := held(instance, environment)) is None:
            raise RefusedError(f"{environment} is not held: it follows {branch} as it is")
        revision = prepare_commit(loaded.settings, environment, check=loaded.check)
        commit = revision.commit
        assert commit is not None
        plan = f"{_title(commit)}\n\n{_plan(loaded, revision, instance)}"
        facts = {**about_commit(commit), "held": str(hold)}
        if form.dry_run:
            why = f"what it would take to roll forward to {commit.short}"
            return Answer(plan, why, NOT_YET, no_hold_tags(), facts)
        reason = reason_of(form.reason, needed=False)
        return Answer(
            plan,
            f"lets {environment} follow {branch} again{reason and f': {reason}'}",
            f"The sensor {named(environment, 'push')} loads and builds it within seconds.",
            release_tags(environment, reason),
            facts,
            by_push=True,
        )

    return form_job(
        environment,
        "roll_forward",
        RollForwardForm,
        answer,
        f"Follow {branch} again after a roll back: the newest commit is loaded, and what differs is"
        " built.",
        op="release",
    )


def find_commit_of(
    recent: Sequence[Commit],
    wanted: str,
    branch: str,
    ticket_pattern: str,
    *,
    show: str = "leave commit empty to see them",
) -> Commit:
    """The commit that a person means; of several that name a ticket the newest.

    Args:
        recent: commits of the branch, the newest first.
        wanted: a SHA, the beginning of one, or a ticket; what may be both is a SHA if there is one.
        show: what to do if there is none.

    Raises:
        RefusedError: there is none, or several.
    """
    some = f"the last {len(recent):,} commits of {branch}"
    is_sha = _SHA.fullmatch(wanted.lower()) is not None
    if is_sha:
        found = [commit for commit in recent if commit.sha.startswith(wanted.lower())]
        if len(found) > 1:
            raise RefusedError(
                f"commit: {len(found)} of {some} begin with {wanted}: write more of it"
            )
        if found:
            return found[0]
    for ticket in (wanted, wanted.upper()):
        if re.fullmatch(ticket_pattern, ticket):
            names = re.compile(rf"(?<!\w){re.escape(ticket)}(?!\w)")
            for commit in recent:
                if names.search(f"{commit.subject}\n{commit.body}"):
                    return commit
            what = f"begins with {wanted}, or names it" if is_sha else f"names {ticket}"
            raise RefusedError(f"commit: none of {some} {what}: {show}")
    if is_sha:
        raise RefusedError(f"commit: none of {some} begins with {wanted}: {show}")
    raise RefusedError(
        f"commit: {wanted!r} is neither a SHA (4 to 40 of 0-9 and a-f) nor a ticket"
        f" ({ticket_pattern}): {show}"
    )


def _title(commit: Commit) -> str:
    return f"{commit.branch} at **{commit.short}** {inline(commit.subject)}, by " + inline(
        commit.author.partition(" <")[0]
    )


def _table(commits: Sequence[Commit]) -> str:
    rows = [
        (
            each.short,
            each.author.partition(" <")[0],
            each.committed_at,
            each.subject,
            link(inline(each.ticket), each.ticket_url) if each.ticket_url else each.ticket,
        )
        for each in commits
    ]
    return table(("commit", "author", "when", "subject", "ticket"), rows)


def _plan(loaded: Loaded, revision: Revision, instance: dg.DagsterInstance) -> str:
    """What loading a revision would have built, in Markdown."""
    at = loaded.at(revision)

    def now(recorded: Collection[Recorded]) -> bool:
        explain(at.settings, at.name, revision, recorded)
        return True

    due = at.ledger(instance).due(now, remember=False)
    assert due is not None
    lines = []
    if due.nodes:
        order = order_of(at.dbt, due.nodes, due.partitions)
        tags = {PUSH_TAG: at.name}
        request = BuildRequest.of_nodes(at.dbt, due.nodes, order, due.checks, tags=tags)
        lines.append(preview(at.dbt, instance, request))
    elif due.checks:
        lines.append(f"No table is built, and {due.count} run.")
    elif not due.waiting:
        lines.append("Nothing is to be built: every table is as that commit says.")
    lines.append(due.asks(at.dbt))
    gone = sorted(loaded.dbt.keys[u].path[-1] for u in loaded.dbt.nodes.keys() - at.dbt.nodes)
    if gone:
        lines.append(f"That commit does not have these, and leaves them: {', '.join(gone)}.")
    return "\n\n".join(filter(None, lines))
