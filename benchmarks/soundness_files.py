"""Edits of seeds, and of which files there are: new, removed, renamed, overriding macros."""

from __future__ import annotations

import csv
import io
import random
import re
from typing import Any

from benchmarks.soundness_edits import body_start, edit, models
from benchmarks.soundness_settings import SETTINGS, load, store
from benchmarks.soundness_world import State

# Seeds


Rows = list[list[str]]


def _seed_rows(rng: random.Random, rows: Rows) -> None:
    """Change the rows below the header."""
    row = rng.randrange(len(rows))
    how = rng.choice(["remove", "repeat", "order"])
    if how == "remove":
        del rows[row]
    elif how == "repeat":
        rows.append(list(rows[row]))
    else:
        rng.shuffle(rows)


def _seed_columns(rng: random.Random, lines: Rows) -> None:
    """Change the columns, the header's included."""
    place, other = rng.randrange(len(lines[0])), rng.randrange(len(lines[0]))
    how = rng.choice(["swap", "rename", "upper", "add", "drop"])
    name = rng.choice(["added", "segment", "score", "note", "euros"])
    for i, line in enumerate(lines):
        if how == "swap":
            line[place], line[other] = line[other], line[place]
        elif how == "drop":
            del line[place]
        elif how == "add":
            line.append(str(i) if i else name)
    if how == "rename":
        lines[0][place] += "_2"
    elif how == "upper":
        lines[0][place] = lines[0][place].upper()


def _seed_value(rng: random.Random, rows: Rows) -> None:
    """Change one value, perhaps to one that gives the column another type."""
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    value = rows[row][column]
    words = ["true", "1e3", "2024-01-01", "null", "-", "0", "007", "", f"{value} ", f"{value}.0"]
    others = [rng.choice(rows)[column], f"{value}0"]
    rows[row][column] = rng.choice([*words, *others, *others, *others])


@edit("seed: data", 10)
def _seed(rng: random.Random, state: State) -> str | None:
    path = rng.choice([p for p in state.files if p.startswith("seeds/")])
    delimiter = ";" if "country_codes" in path else ","
    lines = list(csv.reader(io.StringIO(state.files[path]), delimiter=delimiter))
    rows = lines[1:]
    how = rng.choice(["value", "value", "value", "rows", "columns", "columns", "quotes", "crlf"])
    if how == "value":
        _seed_value(rng, rows)
    elif how == "rows":
        _seed_rows(rng, rows)
    elif how == "columns":
        _seed_columns(rng, [lines[0], *rows])
    quoting: Any = csv.QUOTE_ALL if how == "quotes" else csv.QUOTE_MINIMAL
    end = "\r\n" if how == "crlf" else "\n"
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([lines[0], *rows])
    if text.getvalue() == state.files[path]:
        return None
    state.files[path] = text.getvalue()
    return f"{path}: {how}"


# Files


@edit("file: renamed", 4)
def _renamed(rng: random.Random, state: State) -> str | None:
    return rename_model(
        state,
        rng.choice([p for p in models(state) if "_v" not in p]),
        keep_alias=rng.random() < 0.3,
    )


def rename_model(state: State, path: str, *, keep_alias: bool = False) -> str:
    """Give a model another name, wherever it is named."""
    folder, _, file = path.rpartition("/")
    name = file.removesuffix(".sql")
    new = f"{name}_renamed"
    text = state.files.pop(path)
    if keep_alias:
        text = f"{{{{ config(alias='{name}') }}}}\n{text}"
    state.files[f"{folder}/{new}.sql"] = text
    for other in [p for p in state.files if p.endswith((".sql", ".yml"))]:
        changed = re.sub(rf"ref\((['\"]){name}\1\)", f"ref('{new}')", state.files[other])
        changed = re.sub(rf"name: {name}$", f"name: {new}", changed, flags=re.MULTILINE)
        state.files[other] = changed
    return f"{name} → {new}"


@edit("file: names exchanged", 3)
def _exchanged(rng: random.Random, state: State) -> str | None:
    """Two models take each other's alias, or each other's SQL."""
    one, other = rng.sample([p for p in models(state) if "/marts/" in p and "_v" not in p], 2)
    if rng.random() < 0.5:
        state.files[one], state.files[other] = state.files[other], state.files[one]
        return f"SQL of {one} and {other}"
    for path, name in ((one, other), (other, one)):
        alias = name.rpartition("/")[2].removesuffix(".sql")
        text = state.files[path]
        start = body_start(text)
        state.files[path] = f"{text[:start]}{{{{ config(alias='{alias}') }}}}\n{text[start:]}"
    return f"aliases of {one} and {other}"


@edit("file: seed or model", 2)
def _seed_or_model(rng: random.Random, state: State) -> str | None:  # noqa: ARG001
    """The same table, once a seed, now a model."""
    text = state.files.pop("seeds/country_codes.csv", None)
    if text is None:
        return None
    header, *rows = (line.split(";") for line in text.splitlines())
    values = ", ".join(
        "(" + ", ".join(f"'{v}'" if v and not v.isdigit() else v or "null" for v in row) + ")"
        for row in rows
    )
    sql = f"select * from (values {values}) as t({', '.join(header)})\n"
    state.files["models/marts/country_codes.sql"] = sql
    settings = load(state, SETTINGS)
    del settings["seeds"]["soundness"]["country_codes"]
    store(state, SETTINGS, settings)
    return "country_codes is a model"


@edit("file: leaf removed", 2)
def _removed(rng: random.Random, state: State) -> str | None:
    text = "\n".join(content for path, content in state.files.items())
    leaves = [
        p for p in models(state) if f"'{p.rpartition('/')[2].removesuffix('.sql')}'" not in text
    ]
    leaves = [p for p in leaves if "_v" not in p and "contracted" not in p and "monthly" not in p]
    if not leaves:
        return None
    path = rng.choice(leaves)
    if rng.random() < 0.5:
        state.files[path] = "{{ config(enabled=false) }}\n" + state.files[path]
        return f"{path} disabled"
    del state.files[path]
    return f"{path} deleted"


@edit("file: new model", 3)
def _new(rng: random.Random, state: State) -> str | None:
    of = rng.choice(["stg_orders", "orders_enriched", "customers_history", "states", "raw_orders"])
    name = f"new_{rng.randrange(100)}"
    state.files[f"models/marts/{name}.sql"] = f"select * from {{{{ ref('{of}') }}}}\n"
    return f"{name} reads {of}"


@edit("file: other folder", 2)
def _folder(rng: random.Random, state: State) -> str | None:
    path = rng.choice([p for p in models(state) if p.startswith("models/")])
    new = f"models/{rng.choice(['staging', 'marts'])}/{path.rpartition('/')[2]}"
    if new == path:
        return None
    state.files[new] = state.files.pop(path)
    return f"{path} → {new}"


_OVERRIDES = {
    "macros/table.sql": "{% materialization table, adapter='duckdb' %}"
    "{% set relation = this.incorporate(type='table') %}{% call statement('main') %}"
    "create or replace table {{ relation }} as (select * from ({{ sql }}) limit 5)\n"
    "{% endcall %}{{ adapter.commit() }}{{ return({'relations': [relation]}) }}"
    "{% endmaterialization %}",
    "macros/load.sql": "{% macro duckdb__load_csv_rows(model, agate_table) %}"
    "{{ return(default__load_csv_rows(model, agate_table)) }}{% endmacro %}",
    "macros/hash.sql": "{% macro default__snapshot_hash_arguments(args) %}"
    "md5('x' || {% for a in args %}{{ a }}::varchar{% if not loop.last %}||{% endif %}{% endfor %})"
    "{% endmacro %}",
    "macros/hooks.sql": "{% macro run_hooks(hooks, inside_transaction=True) %}{% endmacro %}",
    "macros/aliases.sql": "{% macro generate_alias_name(custom_alias_name=none, node=none) %}"
    "{{ (custom_alias_name or node.name) ~ ('_v' ~ node.version if node.version else '') }}"
    "{% endmacro %}",
    "macros/ref.sql": "{% macro ref() %}"
    "{{ return(builtins.ref(*varargs, **kwargs)) }}{% endmacro %}",
    "macros/create.sql": "{% macro duckdb__create_table_as(temporary, relation, compiled_code, "
    "language='sql') %}create or replace table {{ relation }} as "
    "(select *, 1 as extra from ({{ compiled_code }}))\n{% endmacro %}",
    "macros/view.sql": "{% macro duckdb__create_view_as(relation, sql) %}"
    "create or replace view {{ relation }} as (select * from ({{ sql }}) limit 3)\n{% endmacro %}",
    "macros/incremental.sql": "{% macro is_incremental() %}{{ return(false) }}{% endmacro %}",
    "macros/bucket.sql": "{% macro soundness__bucket(expression) %}{{ expression }}{% endmacro %}",
    "macros/seeds.sql": "{% macro duckdb__get_binding_char() %}{{ return('?') }}{% endmacro %}",
}


@edit("file: macro that overrides another", 1)
def _override(rng: random.Random, state: State) -> str | None:
    path = rng.choice(sorted(_OVERRIDES))
    if path in state.files:
        return None
    state.files[path] = _OVERRIDES[path]
    return path


@edit("file: schema names", 2)
def _schemas(rng: random.Random, state: State) -> str | None:
    path = "macros/names.sql"
    old, new = rng.choice(
        [
            ("{{ target.schema }}_{{ custom", "{{ custom"),
            ("{{ target.schema }}\n", "{{ 'own' if node.name == 'states' else target.schema }}\n"),
            ("custom_schema_name is none", "custom_schema_name is none or true"),
        ]
    )
    if old not in state.files[path]:
        return None
    state.files[path] = state.files[path].replace(old, new)
    return f"{old!r} → {new!r}"
