"""Pausing: a form that keeps pushes and schedules from starting anything, and one that ends that.

Runs that work go on, and what people start by hand or by a form is built.
"""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from dbt_orchestration.ledger.held import pause_tags, paused
from dbt_orchestration.operations.form import FOR_PUSHES, Answer, RefusedError, form_job, reason_of
from dbt_orchestration.settings.types import named


class PauseForm(dg.Config):
    """Why to pause."""

    reason: str = Field(
        default="", description="Why. Everybody who looks at a push or a schedule reads it."
    )


class ResumeForm(dg.Config):
    """Why to go on."""

    reason: str = Field(default="", description="Why, for whoever looks at it later.")


def pause_job(environment: str) -> dg.JobDefinition:
    """The form that pauses an environment."""

    def answer(instance: dg.DagsterInstance, form: PauseForm) -> Answer:
        reason = reason_of(form.reason, FOR_PUSHES)
        if pause := paused(instance, environment):
            resume = named(environment, "resume")
            said = f"paused {pause.origin}: launch {resume} before you give another reason"
            raise RefusedError(f"{environment} is {said}")
        return Answer(
            f"Pushes and schedules of {environment} start nothing. Runs that work go on, and what"
            " people start by hand, or by a form, is built.",
            f"pauses {environment}: {reason}",
            f"Launch {named(environment, 'resume')} to let it go on.",
            pause_tags(environment, reason),
        )

    return form_job(
        environment,
        "pause",
        PauseForm,
        answer,
        f"Keep pushes and schedules of {environment} from starting anything, until"
        f" {named(environment, 'resume')} is launched.",
        op="stop",
    )


def resume_job(environment: str) -> dg.JobDefinition:
    """The form that lets an environment go on that is paused."""

    def answer(instance: dg.DagsterInstance, form: ResumeForm) -> Answer:
        if (pause := paused(instance, environment)) is None:
            raise RefusedError(f"{environment} is not paused")
        reason = reason_of(form.reason, needed=False)
        return Answer(
            f"Pushes and schedules of {environment} start again. It was paused {pause.origin}.",
            f"lets {environment} go on{reason and f': {reason}'}",
            "What is due is built within seconds; schedules start at their next time.",
            pause_tags(environment, reason, goes_on=True),
        )

    return form_job(
        environment,
        "resume",
        ResumeForm,
        answer,
        f"Let pushes and schedules of {environment} start again after a pause.",
        op="go_on",
    )
