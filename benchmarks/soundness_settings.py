"""Edits of dbt_project.yml, of configs and of properties."""

from __future__ import annotations

import random
from typing import Any

import yaml

from benchmarks.soundness_edits import body_start, edit, models
from benchmarks.soundness_world import LABEL, State

SETTINGS = "dbt_project.yml"


def load(state: State, path: str) -> dict[str, Any]:
    """A YAML file of the project."""
    content: dict[str, Any] = yaml.safe_load(state.files[path])
    return content


def store(state: State, path: str, content: dict[str, Any]) -> None:
    """Write a YAML file of the project."""
    state.files[path] = yaml.safe_dump(content, sort_keys=False)


# dbt_project.yml and the environment


@edit("project: var", 6)
def _var(rng: random.Random, state: State) -> str | None:
    settings = load(state, SETTINGS)
    name, value = rng.choice(
        [
            ("min_amount", rng.choice([0, 3, 4.99, "5", 10])),
            ("home_country", rng.choice(["fr", "DE", "it"])),
            ("day_zero", rng.choice(["2024-01-02", "2024-02-01"])),
            ("shapes", {"step": rng.choice([5, 20, "10"])}),
            ("step", rng.choice([3, 10])),
            ("fallback_score", rng.choice([1, 2])),
            ("nobody_reads_it", rng.random()),
            ("soundness", {"min_amount": rng.choice([5, 7])}),
        ]
    )
    if settings["vars"].get(name) == value:
        return None
    settings["vars"][name] = value
    store(state, SETTINGS, settings)
    return f"var {name}: {value!r}"


@edit("project: environment variable", 3)
def _environment(rng: random.Random, state: State) -> str | None:
    state.environment[LABEL] = value = rng.choice(["a", "none", "it''s"])
    return f"{LABEL}={value}"


@edit("project: settings", 6)
def _settings(rng: random.Random, state: State) -> str | None:
    settings = load(state, SETTINGS)
    models = settings["models"]["soundness"]
    choices: list[tuple[str, dict[str, Any]]] = [
        ("staging", {"+materialized": "table"}),
        ("staging", {"+schema": "staging"}),
        ("marts", {"+materialized": "view"}),
        ("marts", {"+tags": ["marts", "new"]}),
        ("marts", {"+meta": {"owner": rng.choice(["a", "b"])}}),
        ("marts", {"+persist_docs": {"relation": True}}),
        ("marts", {"+post-hook": "analyze"}),
        ("marts", {"+on_schema_change": "append_new_columns"}),
        ("marts", {"latest_orders": {"+alias": "newest_orders"}}),
        ("marts", {"states": {"+schema": "reports"}}),
        ("history", {"+full_refresh": False}),
        ("history", {"+materialized": "table"}),
        ("history", {"+on_schema_change": "sync_all_columns"}),
    ]
    key, value = rng.choice(choices)
    models[key] = {**models[key], **value}
    store(state, SETTINGS, settings)
    return f"{key}: {value}"


@edit("project: dispatch", 2)
def _dispatch(rng: random.Random, state: State) -> str | None:
    settings = load(state, SETTINGS)
    order = rng.choice([["shapes", "soundness"], ["shapes"], ["soundness"], None])
    settings["dispatch"] = [{"macro_namespace": "shapes", "search_order": order}] if order else []
    store(state, SETTINGS, settings)
    return f"search order {order}"


@edit("project: run hooks", 1)
def _run_hooks(rng: random.Random, state: State) -> str | None:
    settings = load(state, SETTINGS)
    key, sql = rng.choice(
        [
            ("on-run-end", "update main.hooked set score = score + 1"),
            ("on-run-end", "analyze"),
            ("on-run-start", "select 1 -- nothing"),
            ("on-run-start", "update bank.rates set rate = rate + 1"),
        ]
    )
    settings[key] = [*settings[key], sql]
    store(state, SETTINGS, settings)
    return f"{key}: {sql}"


@edit("project: seed settings", 3)
def _seed_settings(rng: random.Random, state: State) -> str | None:
    settings = load(state, SETTINGS)
    seed, value = rng.choice(
        [
            ("raw_orders", {"+column_types": {"note": "varchar", "amount": "double"}}),
            ("raw_orders", {"+column_types": {"note": "varchar"}}),
            ("raw_orders", {"+quote_columns": True}),
            ("raw_customers", {"+column_types": {"score": "varchar"}}),
            ("raw_customers", {"+column_types": {"score": "double"}}),
            ("raw_events", {"+column_types": {"value": "bigint"}}),
            ("raw_events", {"+tags": ["raw"]}),
            ("raw_products", {"+alias": "products"}),
            ("raw_products", {"+schema": "raw"}),
        ]
    )
    settings["seeds"]["soundness"][seed] = value
    store(state, SETTINGS, settings)
    return f"{seed}: {value}"


# Configs of models

_CONFIGS = [
    "materialized='view'",
    "materialized='table'",
    "materialized='ephemeral'",
    "materialized='incremental'",
    "tags=['one', 'two']",
    "meta={'owner': 'me'}",
    "alias='moved'",
    "schema='moved'",
    "docs={'show': false}",
    "persist_docs={'columns': true}",
    "unique_key='order_id'",
    "on_schema_change='append_new_columns'",
    "full_refresh=true",
    "event_time='happened_at'",
    "access='protected'",
    "pre_hook='select 1'",
    "post_hook='checkpoint'",
    "post_hook='delete from {{ this }} where 1 = 0'",
    "grants={}",
    "batch_size='day'",
    "batch_size='year'",
    "begin='2024-02-01'",
    "begin='2023-12-01'",
    "lookback=3",
    "incremental_strategy='append'",
    "incremental_predicates=['true']",
    "concurrent_batches=false",
    "sorted_by=['order_id']",
    "nobody_knows_it=1",
]


@edit("config: model", 8)
def _config(rng: random.Random, state: State) -> str | None:
    path = rng.choice(models(state))
    config = rng.choice(_CONFIGS)
    if config.startswith(("batch", "begin", "look", "concurrent")):
        path = "models/history/events_batched.sql"
    text = state.files.get(path)
    if text is None:
        return None
    start = body_start(text)
    state.files[path] = f"{text[:start]}{{{{ config({config}) }}}}\n{text[start:]}"
    return f"{path}: {config}"


@edit("config: hook that changes rows", 3)
def _hook(rng: random.Random, state: State) -> str | None:
    path = rng.choice(["models/marts/hooked.sql", "models/marts/stars.sql"])
    text = state.files.get(path)
    if text is None:
        return None
    sql = rng.choice(
        [
            "delete from {{ this }} where customer_id > 5",
            "update {{ this }} set customer_id = 0 where customer_id is null",
            "alter table {{ this }} add column more integer",
            "update {{ this }} set customer_id = {{ var(\\'fallback_score\\', 1) }}",
        ]
    )
    state.files[path] = f"{{{{ config(post_hook='{sql}') }}}}\n{text}"
    return f"{path}: {sql}"


@edit("config: event time of a parent", 2)
def _event_time(rng: random.Random, state: State) -> str | None:
    path = "models/staging/stg_events.sql"
    old = "{{ config(event_time='happened_at') }}"
    if old not in state.files.get(path, ""):
        return None
    new = rng.choice(["", "{{ config(event_time='later') }}"])
    text = state.files[path].replace(old, new)
    if new:
        later = "cast(moment as timestamp) + interval 20 day as later, value"
        text = text.replace("value", later, 1)
    state.files[path] = text
    return f"event_time: {new or 'none'}"


@edit("config: hooks of an ephemeral model", 1)
def _ephemeral_hooks(rng: random.Random, state: State) -> str | None:  # noqa: ARG001
    """Hooks change the table; a model that is no table has none."""
    path = "models/marts/hooked.sql"
    if "config(" not in state.files.get(path, ""):
        return None
    text = state.files[path]
    state.files[path] = text.replace("config(", "config(materialized='ephemeral',", 1)
    return f"{path} is ephemeral"


@edit("config: in a hook of hooked", 2)
def _hooked(rng: random.Random, state: State) -> str | None:
    path = "models/marts/hooked.sql"
    swaps = [
        ("'unknown'", "'nobody'"),
        ("touch('score'", "touch('customer_id'"),
        ("e', 1)", "e', 2)"),
    ]
    old, new = rng.choice(swaps)
    if old not in state.files.get(path, ""):
        return None
    state.files[path] = state.files[path].replace(old, new)
    return f"{old} → {new}"


@edit("config: snapshot", 4)
def _snapshot(rng: random.Random, state: State) -> str | None:
    checked, timed = "snapshots/customers_history.sql", "snapshots/products_history.yml"
    more = [
        "hard_deletes: invalidate",
        "hard_deletes: new_record",
        "tags: [past]",
        "dbt_valid_to_current: \"date '9999-12-31'\"",
        "snapshot_meta_column_names: {dbt_valid_to: until}",
    ]
    path, old, new = rng.choice(
        [
            (checked, "check_cols=['name', 'score']", "check_cols='all'"),
            (checked, "['name', 'score']", "['score', 'name']"),
            (checked, "unique_key='id'", "unique_key='name'"),
            (checked, "where id is not null", "where id > 3"),
            (checked, "target_schema='main'", "target_schema='past'"),
            (timed, "[currency, valid_from]", "[valid_from, currency]"),
            (timed, "ref('stg_rates')", "source('bank', 'rates')"),
            *((timed, "strategy", f"{key}\n      strategy") for key in more),
        ]
    )
    if old not in state.files.get(path, ""):
        return None
    state.files[path] = state.files[path].replace(old, new)
    return f"{path}: {old} → {new}"


# Properties


@edit("properties: cosmetic", 5)
def _properties(rng: random.Random, state: State) -> str | None:
    path = rng.choice(["models/staging/staging.yml", "models/marts/marts.yml"])
    content = load(state, path)
    model = rng.choice(content["models"])
    key, value = rng.choice(
        [
            ("description", f"Words {rng.random()}"),
            ("config", {**model.get("config", {}), "tags": ["x"]}),
            ("config", {**model.get("config", {}), "meta": {"n": rng.random()}}),
            ("config", {**model.get("config", {}), "group": None}),
            ("docs", {"show": False}),
        ]
    )
    model[key] = value
    store(state, path, content)
    return f"{model['name']}: {key} {value}"


@edit("properties: column", 4)
def _column_properties(rng: random.Random, state: State) -> str | None:
    path = rng.choice(["models/staging/staging.yml", "models/marts/marts.yml"])
    content = load(state, path)
    model = rng.choice([m for m in content["models"] if m.get("columns")])
    column = rng.choice(model["columns"])
    key, value = rng.choice(
        [
            ("description", f"Words {rng.random()}"),
            ("data_tests", rng.choice([["unique"], [{"not_null": {"where": "1 = 1"}}], []])),
            ("tags", ["pii"]),
            ("meta", {"n": 1}),
            ("data_type", rng.choice(["integer", "varchar", "bigint", "hugeint", "int"])),
            ("constraints", [{"type": "not_null"}]),
            ("quote", True),
        ]
    )
    column[key] = value
    store(state, path, content)
    return f"{model['name']}.{column['name']}: {key} {value}"


@edit("properties: contract", 3)
def _contract(rng: random.Random, state: State) -> str | None:
    path = "models/marts/marts.yml"
    content = load(state, path)
    model = next(m for m in content["models"] if m["name"] == "contracted")
    how = rng.choice(["off", "order", "types", "alias_types"])
    if how == "off":
        model["config"] = {}
    elif how == "order":
        model["columns"].reverse()
    elif how == "alias_types":
        model["config"] = {"contract": {"enforced": True, "alias_types": False}}
    else:
        model["columns"][1]["data_type"] = rng.choice(["bigint", "double", "int128", "varchar"])
    store(state, path, content)
    return f"contract: {how}"


@edit("properties: versions", 4)
def _versions(rng: random.Random, state: State) -> str | None:
    path = "models/marts/marts.yml"
    content = load(state, path)
    model = next(m for m in content["models"] if m["name"] == "customer_summary")
    how = rng.choice(["latest", "no latest", "third", "alias"])
    if how == "latest":
        model["latest_version"] = 2
    elif how == "no latest":
        model.pop("latest_version", None)
    elif how == "alias":
        model["versions"][0]["config"] = {"alias": "customer_summary"}
    elif "models/marts/customer_summary_v2.sql" in state.files:
        model["versions"].append({"v": 3})
        second = state.files["models/marts/customer_summary_v2.sql"]
        state.files["models/marts/customer_summary_v3.sql"] = second
    store(state, path, content)
    return f"versions: {how}"


@edit("properties: source", 4)
def _source(rng: random.Random, state: State) -> str | None:
    path = "models/staging/staging.yml"
    content = load(state, path)
    source = content["sources"][0]
    table = source["tables"][0]
    hows = ["other table", "description", "freshness", "renamed", "quoting", "file", "meta"]
    how = rng.choice(hows)
    if how == "other table":
        table["identifier"] = "rates_of_today"
    elif how == "description":
        table["description"] = f"Words {rng.random()}"
    elif how == "freshness":
        table["config"] = {"loaded_at_field": "valid_from"}
    elif how == "file":
        source["tables"][1]["meta"]["external_location"] = "generate_series(1, 3)"
    elif how == "meta":
        location = source["tables"][1].pop("meta", {}).get("external_location", "")
        location = rng.choice([location, "generate_series(2, 3)"])
        source["tables"][1]["config"] = {"meta": {"external_location": location}}
    elif how == "quoting":
        table["quoting"] = {"identifier": False}
    else:
        table.update(name="usd_rates", identifier="rates")
        for file in models(state):
            state.files[file] = state.files[file].replace("'bank', 'rates'", "'bank', 'usd_rates'")
    store(state, path, content)
    return f"source: {how}"
