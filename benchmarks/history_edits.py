"""Edits that matter because of what was built before: partitions, materializations, columns, seeds.

They are drawn beside those of ``benchmarks.soundness``. An edit that sets a config writes one more
``config()`` into the model, whose keys win over those before.
"""

from __future__ import annotations

import csv
import io
import random
import re
from typing import Any

from benchmarks.history_world import first_state
from benchmarks.soundness_edits import Edit, body_start, edit, models
from benchmarks.soundness_files import rename_model
from benchmarks.soundness_settings import SETTINGS, load, store
from benchmarks.soundness_world import State

HISTORY: list[Edit] = []
_LIVING = "models/living/"
_BATCHED = (
    *(f"{_LIVING}{n}.sql" for n in ("daily_events", "monthly_events", "months_of_days")),
    *(f"{_LIVING}{n}.sql" for n in ("months_kept", "months_asked")),
    "models/history/events_batched.sql",
)
_WINDOWED = (f"{_LIVING}windowed_days.sql", f"{_LIVING}windowed_months.sql")
_PLAIN = (
    *(f"{_LIVING}{n}.sql" for n in ("order_log", "products_merged")),
    "models/history/events_kept.sql",
)
_INCREMENTAL = (*_BATCHED, *_WINDOWED, *_PLAIN)
# By position, their columns meet in one table.
_PAIR = (f"{_LIVING}daily_events.sql", f"{_LIVING}monthly_events.sql")


def _configure(state: State, path: str, config: str) -> str | None:
    text = state.files.get(path)
    if text is None:
        return None
    start = body_start(text)
    state.files[path] = f"{text[:start]}{{{{ config({config}) }}}}\n\n{text[start:]}"
    return f"{path}: {config}"


def _partitions(state: State, path: str, **said: Any) -> str | None:
    """Change keys of ``meta.dagster.partitions``; None removes one."""
    text = state.files.get(path)
    if text is None:
        return None
    found = re.findall(r"'partitions': (\{[^{}]*\})", text)
    now: dict[str, Any] = eval(found[-1]) if found else {}
    new = {k: v for k, v in {**now, **said}.items() if v is not None}
    if new == now:
        return None
    return _configure(state, path, f"meta={{'dagster': {{'partitions': {new!r}}}}}")


# Partitions


@edit("partitions: end", 6, HISTORY)
def _end(rng: random.Random, state: State) -> str | None:
    days = ["2024-04-22", "2024-04-27", "2024-05-01", None]
    months = ["2024-03-01", "2024-04-01", "2024-02-01", None]
    path = rng.choice([*_BATCHED, *_WINDOWED])
    return _partitions(state, path, end=rng.choice(days if "day" in path else months))


@edit("partitions: begin", 5, HISTORY)
def _begin(rng: random.Random, state: State) -> str | None:
    days = ["2024-04-15", "2024-04-25", "2024-04-20"]
    months = ["2024-02-01", "2023-11-01", "2024-01-01", "2024-01-15"]
    path = rng.choice([*_BATCHED, *_WINDOWED])
    begin = rng.choice(days if "daily" in path or "days" in path else months)
    if path in _WINDOWED:
        return _partitions(state, path, begin=begin)
    return _configure(state, path, f"begin='{begin}'")


@edit("partitions: batch_size", 4, HISTORY)
def _batch_size(rng: random.Random, state: State) -> str | None:
    path = rng.choice([*_BATCHED, *_WINDOWED])
    size = rng.choice(["month", "year"] if "month" in path else ["day", "month"])
    if path in _WINDOWED:
        return _partitions(state, path, batch_size=size)
    return _configure(state, path, f"batch_size='{size}'")


@edit("partitions: how they are built", 3, HISTORY)
def _how(rng: random.Random, state: State) -> str | None:
    path = rng.choice(_BATCHED)
    if rng.random() < 0.3:
        return _configure(state, path, f"lookback={rng.choice([0, 2])}")
    if rng.random() < 0.5:
        return _partitions(state, path, chunk=rng.choice([1, 2, 3, None]))
    return _partitions(state, path, mergeable=rng.choice([False, None]))


@edit("partitions: opted out", 2, HISTORY)
def _out(rng: random.Random, state: State) -> str | None:
    return _configure(state, rng.choice(_WINDOWED), "meta={'dagster': {}}")


@edit("history: event_time", 3, HISTORY)
def _event_time(rng: random.Random, state: State) -> str | None:
    if rng.random() < 0.5:
        path = "models/staging/stg_events.sql"
        return _configure(state, path, rng.choice(["event_time=none", "event_time='happened_at'"]))
    path = f"{_LIVING}daily_events.sql"
    return _configure(state, path, rng.choice(["event_time=none", "event_time='happened_at'"]))


@edit("history: on_change", 4, HISTORY)
def _on_change(rng: random.Random, state: State) -> str | None:
    path = rng.choice(_INCREMENTAL)
    said = rng.choice(["rebuild", "ask", "forward_only"])
    text = state.files.get(path, "")
    found = re.findall(r"'partitions': (\{[^{}]*\})", text)
    more = f", 'partitions': {found[-1]}" if found else ""
    return _configure(state, path, f"meta={{'dagster': {{'on_change': '{said}'{more}}}}}")


# How a model is kept


@edit("history: materialization", 8, HISTORY)
def _materialization(rng: random.Random, state: State) -> str | None:
    living = [p for p in models(state) if "/living/" in p or "/history/" in p]
    path = rng.choice([rng.choice(living), rng.choice(models(state)), rng.choice(_INCREMENTAL)])
    batched = (
        "materialized='incremental', incremental_strategy='microbatch', batch_size='month',"
        " begin='2024-01-01', event_time="
    )
    choices = [
        "materialized='view'",
        "materialized='table'",
        "materialized='ephemeral'",
        "materialized='refilled'",
        "materialized='incremental', incremental_strategy='append'",
        "materialized='incremental', incremental_strategy='delete+insert'",
        f"{batched}'{'month_at' if 'month' in path else 'happened_at'}'",
    ]
    return _configure(state, path, rng.choice(choices))


@edit("history: on_schema_change", 4, HISTORY)
def _on_schema_change(rng: random.Random, state: State) -> str | None:
    said = rng.choice(["ignore", "append_new_columns", "sync_all_columns", "fail"])
    return _configure(state, rng.choice(_INCREMENTAL), f"on_schema_change='{said}'")


@edit("history: unique_key", 3, HISTORY)
def _unique_key(rng: random.Random, state: State) -> str | None:
    path = rng.choice([*_WINDOWED, *_PLAIN])
    columns = _columns(state.files.get(path, ""))
    if len(columns) < 2:
        return None
    names = [_name_of(c) for c in rng.sample(columns, 2)]
    key = rng.choice(["none", repr(names[0]), repr(names)])
    return _configure(state, path, f"unique_key={key}")


@edit("history: strategy", 3, HISTORY)
def _strategy(rng: random.Random, state: State) -> str | None:
    said = rng.choice(["append", "delete+insert", "merge", "microbatch"])
    return _configure(state, rng.choice(_INCREMENTAL), f"incremental_strategy='{said}'")


@edit("history: full_refresh", 1, HISTORY)
def _full_refresh(rng: random.Random, state: State) -> str | None:
    said = rng.choice(["false", "none", "true"])
    return _configure(state, rng.choice(_INCREMENTAL), f"full_refresh={said}")


# Columns of models that are added to

_SELECT = re.compile(r"^select (.+?)\nfrom ", re.DOTALL | re.MULTILINE)


def _columns(text: str) -> list[str]:
    """The SELECT list of a model, cut at its commas."""
    match = _SELECT.search(text, body_start(text))
    if match is None:
        return []
    found, depth = [""], 0
    for character in match[1]:
        depth += (character in "({[") - (character in ")}]")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return [column.strip() for column in found]


def _name_of(column: str) -> str:
    return column.rsplit(maxsplit=1)[-1].rpartition(".")[2]


def _with_columns(state: State, path: str, columns: list[str]) -> None:
    text = state.files[path]
    start = body_start(text)
    body = _SELECT.sub(lambda m: m[0].replace(m[1], ", ".join(columns), 1), text[start:], count=1)
    state.files[path] = text[:start] + body


def _column_paths(rng: random.Random, state: State) -> list[str]:
    """Models to give other columns, mostly one."""
    if rng.random() < 0.4:
        return [p for p in _PAIR if _columns(state.files.get(p, ""))]
    path = rng.choice([*_INCREMENTAL, f"{_LIVING}refilled_orders.sql"])
    return [path] if _columns(state.files.get(path, "")) else []


@edit("columns: added", 10, HISTORY)
def _added(rng: random.Random, state: State) -> str | None:
    paths = _column_paths(rng, state)
    name = rng.choice(["added", "extra", "more"])
    value = rng.choice(
        ["7::bigint", "'x'", "1", "null::varchar", "count(*)", "true", "0.5::double"]
    )
    at_the_end = rng.random() < 0.4
    place = rng.randrange(4)
    for path in paths:
        columns = _columns(state.files[path])
        if name in map(_name_of, columns) or (
            value == "count(*)" and "group by" not in state.files[path]
        ):
            return None
        # What GROUP BY counts from the left stays where it is.
        first = 2 if "group by 1, 2" in state.files[path] else "group by 1" in state.files[path]
        here = len(columns) if at_the_end else max(min(place, len(columns)), first)
        columns.insert(here, f"{value} as {name}")
        _with_columns(state, path, columns)
    return f"{value} as {name} in {', '.join(paths)}" if paths else None


@edit("columns: removed", 5, HISTORY)
def _removed(rng: random.Random, state: State) -> str | None:
    paths = _column_paths(rng, state)
    place = rng.randrange(1, 5)
    gone = []
    for path in paths:
        columns = _columns(state.files[path])
        if len(columns) <= place:
            return None
        gone.append(columns.pop(place))
        _with_columns(state, path, columns)
    return f"without {', '.join(gone)} in {', '.join(paths)}" if gone else None


@edit("columns: moved", 4, HISTORY)
def _moved(rng: random.Random, state: State) -> str | None:
    paths = _column_paths(rng, state)
    for path in paths:
        columns = _columns(state.files[path])
        first = 2 if "group by 1, 2" in state.files[path] else "group by 1" in state.files[path]
        if len(columns) < first + 2:
            return None
        columns.insert(first, columns.pop())
        _with_columns(state, path, columns)
    return f"last column moved in {', '.join(paths)}" if paths else None


@edit("columns: computed otherwise", 6, HISTORY)
def _computed(rng: random.Random, state: State) -> str | None:
    paths = _column_paths(rng, state)
    change = rng.choice(
        ["cast({} as bigint)", "cast({} as varchar)", "coalesce({}, null)", "max({})"]
    )
    change = rng.choice([change, "{} + 1", "cast({} as double)"])
    for path in paths:
        columns = _columns(state.files[path])
        column = columns[-1]
        value = re.sub(r"\s+as\s+\w+$", "", column)
        columns[-1] = f"{change.format(value)} as {_name_of(column)}"
        _with_columns(state, path, columns)
    return f"{change} of the last column in {', '.join(paths)}" if paths else None


@edit("rows: filter", 6, HISTORY)
def _filter(rng: random.Random, state: State) -> str | None:
    path = rng.choice(_INCREMENTAL)
    match = re.search(r"from (\{\{ ref\('(stg_\w+)'\) \}\})(?! where)", state.files.get(path, ""))
    if match is None:
        return None
    condition = {
        "stg_events": rng.choice(["value > 20", "kind <> 'click'", "value is not null"]),
        "stg_orders": rng.choice(["status = 'paid'", "cents > 500", "sku is not null"]),
        "stg_products": rng.choice(["price > 1", "kind is not null"]),
    }[match[2]]
    new = f"from (select * from {match[1]} where {condition}) as chosen"
    state.files[path] = state.files[path].replace(match[0], new, 1)
    return f"{path}: only {condition}"


# Seeds


@edit("seed: columns", 8, HISTORY)
def _seed_columns(rng: random.Random, state: State) -> str | None:
    seeds = [p for p in state.files if p.startswith("seeds/")]
    path = rng.choice(["seeds/country_codes.csv", "seeds/raw_products.csv", rng.choice(seeds)])
    if path not in state.files:
        return None
    delimiter = ";" if "country_codes" in path else ","
    lines = list(csv.reader(io.StringIO(state.files[path]), delimiter=delimiter))
    how = rng.choice(["added", "added", "gone", "moved", "retyped"])
    place = rng.randrange(len(lines[0]))
    if how == "added":
        name = rng.choice(["added", "extra"])
        if name in lines[0]:
            return None
        for i, line in enumerate(lines):
            line.insert(place, str(i) if i else name)
    elif how == "gone":
        for line in lines:
            del line[place]
    elif how == "moved":
        for line in lines:
            line.append(line.pop(place))
    else:
        for line in lines[1:]:
            line[place] = f"{line[place]}x" if line[place].isdigit() else "7"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
    state.files[path] = text.getvalue()
    return f"{path}: column {place} {how}"


@edit("seed: types", 3, HISTORY)
def _seed_types(rng: random.Random, state: State) -> str | None:
    settings = load(state, SETTINGS)
    seeds = settings["seeds"]["soundness"]
    name, types = rng.choice(
        [
            ("country_codes", {"population": rng.choice(["bigint", "varchar", "double"])}),
            ("raw_products", {"price": rng.choice(["double", "varchar", "decimal(9, 3)"])}),
            ("raw_events", {"value": rng.choice(["bigint", "double"])}),
        ]
    )
    before = seeds.get(name) or {}
    if before.get("+column_types") == types:
        return None
    seeds[name] = {**before, "+column_types": types}
    store(state, SETTINGS, settings)
    return f"{name}: {types}"


# Which models there are, and what they are called


def _readers(state: State, name: str) -> list[str]:
    said = re.compile(rf"ref\(['\"]{name}['\"]")
    return [p for p, text in state.files.items() if p.endswith(".sql") and said.search(text)]


@edit("models: deleted", 4, HISTORY)
def _deleted(rng: random.Random, state: State) -> str | None:
    """With everything that reads it."""
    living = [p for p in models(state) if "/living/" in p or "/history/" in p]
    if len(living) < 8:
        return None
    waiting, gone = [rng.choice(living)], list[str]()
    while waiting:
        path = waiting.pop()
        if path in state.files:
            gone.append(path)
            del state.files[path]
            waiting += _readers(state, path.rpartition("/")[2].removesuffix(".sql"))
    return f"deleted {', '.join(gone)}"


@edit("models: back", 5, HISTORY)
def _back(rng: random.Random, state: State) -> str | None:
    """A file as it was at first, with all that it reads."""
    first = first_state().files
    other = [p for p in first if p.endswith((".sql", ".csv")) and state.files.get(p) != first[p]]
    if not other:
        return None
    missing = [p for p in other if p not in state.files]
    waiting, back = [rng.choice(missing or other)], list[str]()
    while waiting:
        path = waiting.pop()
        state.files[path] = first[path]
        back.append(path)
        for name in re.findall(r"ref\('(\w+)'", first[path]):
            found = [p for p in first if p.rpartition("/")[2] in (f"{name}.sql", f"{name}.csv")]
            waiting += [p for p in found if p not in state.files]
    return f"as at first: {', '.join(back)}"


@edit("models: name of another", 4, HISTORY)
def _alias(rng: random.Random, state: State) -> str | None:
    """An alias or a schema, perhaps the name of a table that nobody owns any more."""
    living = [p for p in models(state) if "/living/" in p]
    gone = [p for p in first_state().files if "/living/" in p and p not in state.files]
    if not living:
        return None
    names = [p.rpartition("/")[2].removesuffix(".sql") for p in gone]
    config = rng.choice(
        ["schema='moved'", "schema=none", "alias='moved'", *(f"alias='{n}'" for n in names)]
    )
    return _configure(state, rng.choice(living), config)


@edit("models: other names", 3, HISTORY)
def _other_names(rng: random.Random, state: State) -> str | None:
    """Of what may be copied then: by their files, or by an alias or a schema that nobody has."""
    wanted = [p for p in models(state) if "/living/" in p or "/history/" in p]
    if not wanted:
        return None
    said = []
    for path in rng.sample(wanted, min(len(wanted), rng.randint(1, 4))):
        name = path.rpartition("/")[2].removesuffix(".sql")
        if rng.random() < 0.6:
            said.append(rename_model(state, path))
        else:
            config = rng.choice([f"alias='{name}_else'", "schema='else'"])
            said.append(_configure(state, path, config) or "")
    return ", ".join(said)


@edit("models: new under an old name", 3, HISTORY)
def _old_name(rng: random.Random, state: State) -> str | None:
    first = first_state().files
    gone = [p for p in first if p.startswith(("models/living", "models/history", "seeds/"))]
    gone = [p for p in gone if p not in state.files]
    if not gone:
        return None
    name = rng.choice(gone).rpartition("/")[2].rpartition(".")[0]
    of = rng.choice(["stg_orders", "stg_events", "country_codes"])
    kind = rng.choice(["view", "table", "incremental"])
    if any(p.rpartition("/")[2].rpartition(".")[0] == name for p in state.files):
        return None
    state.files[f"{_LIVING}{name}.sql"] = (
        f"{{{{ config(materialized='{kind}') }}}}\n\nselect * from {{{{ ref('{of}') }}}}\n"
    )
    return f"{name} is a {kind} of {of}"


@edit("models: seed as a model", 3, HISTORY)
def _seed_as_model(rng: random.Random, state: State) -> str | None:
    """The same name, once a seed, now a model of some kind; or a seed again."""
    first = first_state().files
    name = rng.choice(["country_codes", "raw_products"])
    seed, model = f"seeds/{name}.csv", f"{_LIVING}{name}.sql"
    settings = load(state, SETTINGS)
    if model in state.files:
        del state.files[model]
        state.files[seed] = first[seed]
        settings["seeds"]["soundness"]["country_codes"] = {"+delimiter": ";"}
        store(state, SETTINGS, settings)
        return f"{name} is a seed again"
    if seed not in state.files:
        return None
    delimiter = ";" if name == "country_codes" else ","
    header, *rows = csv.reader(io.StringIO(state.files.pop(seed)), delimiter=delimiter)
    settings["seeds"]["soundness"].pop(name, None)
    store(state, SETTINGS, settings)
    numbers = {i for i in range(len(header)) if all(_is_number(row[i]) for row in rows)}
    values = ", ".join(
        f"({', '.join(_literal(v, i in numbers) for i, v in enumerate(row))})" for row in rows
    )
    kind = rng.choice(["view", "table", "incremental"])
    state.files[model] = (
        f"{{{{ config(materialized='{kind}') }}}}\n\n"
        f"select * from (values {values}) as t({', '.join(header)})\n"
    )
    return f"{name} is a {kind}"


def _is_number(value: str) -> bool:
    return not value or bool(re.fullmatch(r"\d+(\.\d+)?", value))


def _literal(value: str, number: bool) -> str:
    quoted = value.replace("'", "''")
    return "null" if not value else value if number else f"'{quoted}'"


# Packages


@edit("package: local", 3, HISTORY)
def _package(rng: random.Random, state: State) -> str | None:
    """Packages that dbt installs, one of them new, instead of a folder in the repository."""
    macro = "local/extra/macros/tax.sql"
    if macro in state.files:
        rate = rng.choice(["1.07", "1.19", "2"])
        state.files[macro] = f"{{% macro tax() %}}{rate}{{% endmacro %}}\n"
        if rng.random() < 0.3:
            state.files["local/extra/models/taxes.sql"] = f"select {rate} as rate\n"
        return f"tax is {rate}"
    for path in [p for p in state.files if p.startswith("installed/shapes/")]:
        state.files[path.replace("installed/", "local/", 1)] = state.files.pop(path)
    state.files["local/extra/dbt_project.yml"] = "name: extra\nversion: '1.0.0'\n"
    state.files[macro] = "{% macro tax() %}1.19{% endmacro %}\n"
    state.files["packages.yml"] = "packages:\n  - local: local/shapes\n  - local: local/extra\n"
    settings = load(state, SETTINGS)
    settings.pop("packages-install-path", None)
    store(state, SETTINGS, settings)
    path = f"{_LIVING}products_merged.sql"
    if "label, price, kind" not in state.files.get(path, ""):
        return None
    price = "label, price * {{ extra.tax() }} as price, kind"
    state.files[path] = state.files[path].replace("label, price, kind", price, 1)
    return "local packages shapes and extra"


# Edits that break a build, which a person then mends

BREAKING: list[Edit] = []


@edit("broken: a model fails", 5, BREAKING)
def _fails(rng: random.Random, state: State) -> str | None:
    path = rng.choice([rng.choice(models(state)), rng.choice(_INCREMENTAL)])
    text = state.files.get(path, "")
    start = body_start(text)
    if not text or "{%" in text[start:] or "with recursive" in text or "ephemeral" in text:
        return None
    body = text[start:].rstrip()
    state.files[path] = (
        f"{text[:start]}select * from (\n{body}\n) where error('it is broken') is null\n"
    )
    return f"{path} fails"


@edit("broken: not parsed", 2, BREAKING)
def _not_parsed(rng: random.Random, state: State) -> str | None:
    path = rng.choice(models(state))
    state.files[path] += "\n{% if %}"
    return f"{path} does not parse"


@edit("broken: a test fails", 3, BREAKING)
def _test_fails(rng: random.Random, state: State) -> str | None:
    path = rng.choice(models(state))
    name = path.rpartition("/")[2].removesuffix(".sql")
    if "/shapes/" in path or "_v" in name:
        return None
    state.files["tests/it_fails.sql"] = f"select 1 as one from {{{{ ref('{name}') }}}} limit 1\n"
    return f"a test of {name} fails"
