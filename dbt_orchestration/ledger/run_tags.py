"""The tags of runs: a few that people read, and others for programs, which Dagster's UI hides.

The UI lists every tag of a run but Dagster's own. It shows none that begins with ``.dagster/``.
"""

from __future__ import annotations

from collections.abc import Mapping

from dbt_orchestration.dbt.parse import Revision

# For people.
ENVIRONMENT_TAG, COMMIT_TAG, WHY_TAG = "dbt/environment", "dbt/commit", "dbt/why"
# The ticket that the commit's message names, if it does.
TICKET_TAG = "dbt/ticket"
# Who has launched a run, as Dagster calls it. A proxy in front of it knows, or our command line.
USER_TAG = "user"
# For programs. The digest and the SHA of the commit that is built.
REVISION_TAG, SHA_TAG = ".dagster/dbt_revision", ".dagster/dbt_sha"
# The environment whose push sensor asked for a build, or for the raw tables to be loaded.
PUSH_TAG, RAW_TAG = ".dagster/dbt_push", ".dagster/dbt_raw"
# The environment whose Lightdash project a run tells.
LIGHTDASH_TAG = ".dagster/dbt_lightdash"
# The environment in which a person has launched a form.
FORM_TAG = ".dagster/dbt_form"
# The revision whose history a person lets be rebuilt.
APPROVED_TAG = ".dagster/dbt_approved"
# The revision with which a person lets new partitions be built, and the others stay as they are.
NEW_ONLY_TAG = ".dagster/dbt_new_only"
# With one of them, and ``history.order.packed``: the models that the person has chosen, if not all.
CHOSEN_TAG = ".dagster/dbt_chosen"
# The environment that a form holds at a commit, or releases: see ``ledger.held``.
HOLD_TAG = ".dagster/dbt_hold"
# With that: the commit, or "" if it is released; where the branch was, if its next push is to
# release it; and the push that has.
HELD_SHA_TAG, HELD_HEAD_TAG = ".dagster/dbt_held_sha", ".dagster/dbt_held_head"
HELD_OVER_TAG = ".dagster/dbt_held_over"
# The environment that a form pauses, or lets go on; and which of the two.
PAUSE_TAG, PAUSED_TAG = ".dagster/dbt_pause", ".dagster/dbt_paused"
# Why, in the words of the person.
REASON_TAG = ".dagster/dbt_reason"
# Of a run that failed while a disk was full, which says nothing about what it was to build.
DISK_FULL_TAG = ".dagster/dbt_disk_full"
# Of a run that somebody wants at once: it shares no table with one that works at the same time.
AHEAD_TAG = ".dagster/dbt_ahead"
# Which tables a run recreates.
RECREATES_TAG = ".dagster/dbt_recreates"
# Of a run that works in an environment: its name. It is taken back when the run has said what it
# left.
WORKING_TAG = ".dagster/dbt_working"
# With ``history.order.packed``: what a run has left as it was, and which run that is.
LEFT_TAG = ".dagster/dbt_left"
# Of a run that writes dbt docs without a person: of which revision, and since which run.
DOCS_TAG = ".dagster/dbt_docs"
# What a run's queries cost, in credits of Snowflake.
CREDITS_TAG = ".dagster/dbt_credits"
# As versions before this one called them, in what is still to be told apart.
_PUSH_BEFORE, APPROVED_BEFORE = "dbt/push", "dbt/approved"
# PostgreSQL keeps no value in an index that is much longer than a few of these.
_MOST_CHARACTERS = 300


def run_tags(environment: str, revision: Revision, why: str = "") -> dict[str, str]:
    """What every run of an environment says: to people what it builds and why, and what of it.

    Args:
        why: in words; "" if somebody just wanted it.
    """
    tags = {ENVIRONMENT_TAG: environment, WHY_TAG: shortened(why)}
    if commit := revision.commit:
        tags |= {
            COMMIT_TAG: shortened(f"{commit.short} {commit.subject}"),
            REVISION_TAG: revision.digest,
            SHA_TAG: commit.sha,
            TICKET_TAG: shortened(commit.ticket),
        }
    return {key: value for key, value in tags.items() if value}


def shortened(text: str) -> str:
    """``text`` as a tag can have it."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def is_from_push(tags: Mapping[str, str]) -> bool:
    """Whether the push sensor asked for a run with these tags."""
    return PUSH_TAG in tags or _PUSH_BEFORE in tags
