"""Edits of hooks: what they send in every way that Jinja has, and where it may matter."""

from __future__ import annotations

import random

from benchmarks.soundness_edits import edit
from benchmarks.soundness_settings import SETTINGS, load, store
from benchmarks.soundness_world import State

MACROS_OF_HOOKS = "macros/hooks_of_edits.sql"
# What nobody reads of: a log, comments, queries.
_HARMLESS = [
    "insert into main.noted values ('{{ this.name }}')",
    "select count(*) from {{ this }}",
    "{{ log('; delete from ' ~ this) }}",
    "{% do run_query(\"insert into main.noted values ('a; b')\") %}",
    "{% if execute %}{% call statement('n') %}analyze{% endcall %}{% endif %}",
    "create or replace table main.noted_too as select * from {{ this }}; analyze",
    "{% for node in graph.nodes.values() %}insert into main.noted values ('{{ node.name }}');"
    "{% endfor %}",
]
_CHANGES = [
    "delete from {{ this }} where customer_id > 4",
    "{% set t = this %}update {{ t }} set customer_id = 0 where customer_id = 1",
    "{% set q = 'delete from ' ~ this ~ ' where customer_id = 2' %}{% do run_query(q) %}",
    "{% set q %}update {{ this }} set customer_id = {{ var('fallback_score', 1) }}{% endset %}"
    "{{ q }}",
    "{% if execute %}{% call statement('c') %}delete from {{ this }} where customer_id < 3"
    "{% endcall %}{% endif %}",
    "select 1{% if this %}; delete from {{ this }} where customer_id > 6{% endif %}",
    "{{ ['delete', 'from', this, 'where customer_id = 3'] | join(' ') }}",
    "{{ 'delete from {} where customer_id = {}'.format(this, 4) }}",
    "{{ adapter.dispatch('to_be_run')() }}",
]
_AROUND = [
    "insert into main.audit values ('once more')",
    "{% for what in ['a', 'b'] %}insert into main.audit values ('{{ what }}'); {% endfor %}",
    "update bank.rates set rate = rate * 2",
    "{% for t in ['rates'] %}update bank.{{ t }} set rate = 1;{% endfor %}",
    "{% set t = 'no' ~ 'ted' %}insert into main.{{ t }} values ('a')",
    "{% if execute %}{% for node in graph.nodes.values() %}"
    '{% do run_query("insert into main.noted values (\'" ~ node.name ~ "\')") %}'
    "{% endfor %}{% endif %}",
    "{{ log('all is well') }}",
]
_AT_THE_END = [
    "{% for t in ['hooked'] %}update main.{{ t }} set score = 0;{% endfor %}",
    "{% do run_query('update main.' ~ 'hooked' ~ ' set segment = 1') %}",
    "{% set t = ref('hooked') %}{% if execute %}update {{ t }} set score = 5{% endif %}",
    "{% if execute %}{% for node in graph.nodes.values() if node.name == 'stars' %}"
    "delete from {{ node.relation_name }} where customer_id = 1;{% endfor %}{% endif %}",
]


@edit("hooks: of a model, by a macro", 4)
def _of_a_model(rng: random.Random, state: State) -> str | None:
    path = rng.choice(["models/marts/hooked.sql", "models/marts/stars.sql"])
    text = state.files.get(path)
    if text is None or MACROS_OF_HOOKS in state.files:
        return None
    kind = rng.choice(["post_hook", "post_hook", "pre_hook"])
    body = rng.choice(_HARMLESS if kind == "pre_hook" else _HARMLESS + _CHANGES)
    _write(state, body)
    call = rng.choice(["{{ sent() }}", "{{ soundness.sent() }}"])
    state.files[path] = f"{{{{ config({kind}='{call}') }}}}\n{text}"
    return f"{path}, {kind}: {body}"


@edit("hooks: around the run, by a macro", 3)
def _around_the_run(rng: random.Random, state: State) -> str | None:
    if MACROS_OF_HOOKS in state.files:
        return None
    key = rng.choice(["on-run-start", "on-run-end"])
    body = rng.choice(_AROUND if key == "on-run-start" else _AROUND + _AT_THE_END)
    _write(state, body)
    settings = load(state, SETTINGS)
    settings[key] = [*settings[key], rng.choice(["{{ sent() }}", "{{ soundness.sent() }}"])]
    store(state, SETTINGS, settings)
    return f"{key}: {body}"


def _write(state: State, body: str) -> None:
    dispatched = "delete from {{ this }} where customer_id = 5"
    state.files[MACROS_OF_HOOKS] = (
        f"{{% macro sent() %}}{body}{{% endmacro %}}\n"
        f"{{% macro default__to_be_run() %}}{dispatched}{{% endmacro %}}\n"
    )
    settings = load(state, SETTINGS)
    settings["on-run-start"] = [
        *settings["on-run-start"],
        "create table if not exists main.noted (what varchar)",
    ]
    store(state, SETTINGS, settings)
