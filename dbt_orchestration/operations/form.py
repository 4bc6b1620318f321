"""What every form is: a job that says what it would do, and leaves with its own run what is wanted.

A form is launched from the Launchpad, or by the command line, with a typed request. It computes a
plan, shows it, and changes nothing. Unless ``dry_run`` is set, the answer's tags are then put on
the form's own run: a sensor reads them and does the rest. So a form that dies has asked for
nothing, and its run stays on record: who asked for what, when and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dagster as dg

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.history.partitions import PartitionError
from dbt_orchestration.ledger import run_tags
from dbt_orchestration.ledger.held import paused
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG, FORM_TAG, WHY_TAG
from dbt_orchestration.markdown import shortened
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.storage import StorageError
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.models import SettingsError
from dbt_orchestration.settings.types import named

Act = Callable[[dg.OpExecutionContext], Mapping[str, Any]]
_MOST_CHARACTERS = 1_000
NOT_YET = "Nothing was started: launch it with dry_run: false."
DRY_RUN = "True: only show what it would do. False: do it. Empty: do it, but only show"
# Dagster takes what has more out of its queue first. Nothing else of ours has any.
AHEAD = {"dagster/priority": "10"}
FOR_PUSHES = "say why, for everybody whose push will wait"
Request = TypeVar("Request", bound=dg.Config)


class RefusedError(ValueError):
    """A request that cannot be met. The message is one line: what is wrong, and what to do."""


_REFUSALS = (RefusedError, PartitionError, SettingsError, PrepareError, GitError, StorageError)


@dataclass(frozen=True)
class Answer:
    """What a form says, and what it leaves with its run.

    Attributes:
        plan: what would be done, or is, in Markdown.
        why: the form's run in a few words, as the list of runs shows it.
        next: what happens now, in one line.
        tags: what a sensor reads; empty for a dry run.
        metadata: what else the run's page shows.
        act: what the form's own run does, after the plan is shown; returns more for its page.
        by_push: the push sensor does it, which starts nothing in an environment that is paused.
    """

    plan: str
    why: str
    next: str = NOT_YET
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    act: Act | None = None
    by_push: bool = False


def form_job(
    environment: str,
    name: str,
    request: type[Request],
    answer: Callable[[dg.DagsterInstance, Request], Answer],
    description: str,
    *,
    op: str,
    begin: Mapping[str, Any] | None = None,
    pool: str | None = None,
) -> dg.JobDefinition:
    """A form as a job.

    Args:
        name: of the job, after the environment's.
        request: its fields, with a description and a default each, in the order to show them.
        answer: computes the answer; changes nothing.
        op: what its fields stand under in the Launchpad, after the environment's name.
        begin: what the Launchpad opens with. Default: the fields' defaults.
        pool: of a form that acts itself: it takes a place in it, and others wait for it.

    The job's run fails with one line if ``answer`` raises ``RefusedError``, or another of our own
    errors that are for people.
    """
    op = named(environment, op)

    def ask(context: dg.OpExecutionContext, config: dg.Config) -> None:
        try:
            answered = answer(context.instance, config)  # type: ignore[arg-type]
        except _REFUSALS as error:
            said = shortened(" ".join(str(error).split()), _MOST_CHARACTERS)
            end = "" if said.endswith(("?", ".")) else "."
            raise PlainFailure(f"Nothing was started: {said}{end}", allow_retries=False) from None
        # Re-executed, a form has the tags that it was left with.
        tags = {
            WHY_TAG: run_tags.shortened(answered.why),
            **BuildRequest.nothing(),
            **answered.tags,
        }
        context.instance.add_run_tags(context.run.run_id, tags)
        pause = paused(context.instance, environment) if answered.by_push else None
        then = f"{answered.next} But not while it is paused. {pause}" if pause else answered.next
        context.log.info(f"{answered.plan}\n\n{then}")
        plan = dg.MetadataValue.md(answered.plan)
        more = answered.act(context) if answered.act else {}
        context.add_output_metadata({"plan": plan, **answered.metadata, **more, "next": then})

    # Dagster reads from it what the fields are.
    ask.__annotations__ = {"context": dg.OpExecutionContext, "config": request}
    form = dg.op(name=op, description=description, pool=pool)(ask)

    @dg.job(
        name=named(environment, name),
        description=description,
        config={"ops": {op: {"config": dict(begin or request().model_dump())}}},
        tags={ENVIRONMENT_TAG: environment, FORM_TAG: environment, **(AHEAD if pool else {})},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        form()

    return job


def only_shows(said: bool | None, *, costly: bool) -> bool:
    """Whether a form only shows what it would do, if its field ``dry_run`` says so or nothing.

    Args:
        costly: what is wanted is costly, or destroys something.
    """
    return costly if said is None else said


def reason_of(
    said: str,
    words: str = "say in a few words why; it stands on the run, for everybody",
    *,
    needed: bool = True,
) -> str:
    """Why somebody wants something, in one line; "" if nothing is said, and none is needed.

    Args:
        words: what to do if one is.

    Raises:
        RefusedError: one is needed, and nothing is said.
    """
    reason = " ".join(said.split())
    if needed and not reason:
        raise RefusedError(f"reason: {words}")
    return reason
