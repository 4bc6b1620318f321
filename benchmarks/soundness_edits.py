"""The registry of edits, and those that work on the text of files: comments, tokens, file moves.

An edit changes a ``State`` in place and says what it did, or returns None if it found no place for
itself. Edits may break the project; dbt then says so, and the edit is drawn again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from benchmarks.soundness_world import State

Change = Callable[[random.Random, State], str | None]
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_CALL = re.compile(r"\{\{\s*config\(.*?\)\s*\}\}\s*|\{%-?\s*snapshot.*?%\}\s*", re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """One kind of edit. ``weight`` is how often it is drawn."""

    name: str
    change: Change
    weight: int


EDITS: list[Edit] = []


def edit(name: str, weight: int = 2, among: list[Edit] = EDITS) -> Callable[[Change], Change]:
    """Register a kind of edit under a name of the form ``group: what``."""

    def register(change: Change) -> Change:
        among.append(Edit(name, change, weight))
        return change

    return register


def apply_one(rng: random.Random, state: State, among: Sequence[Edit] = EDITS) -> tuple[str, str]:
    """Apply one edit, of a kind that finds a place for itself: its kind, and what it did."""
    while True:
        chosen = rng.choices(among, [e.weight for e in among])[0]
        for _ in range(10):
            if did := chosen.change(rng, state):
                return chosen.name, did


def models(state: State) -> list[str]:
    """Paths of all models, packages' included."""
    return [p for p in state.files if "models/" in p and p.endswith(".sql")]


def some_sql(rng: random.Random, state: State) -> str:
    """The path of some model or snapshot."""
    return rng.choice([*models(state), *(p for p in state.files if p.startswith("snapshots/"))])


def macro_files(state: State) -> list[str]:
    """Paths of all files with macros."""
    return [p for p in state.files if "macros/" in p]


def body_start(text: str) -> int:
    """Where the SQL of a model begins, after ``config()``."""
    position = 0
    while match := _CALL.match(text, position):
        position = match.end()
    return position


def tokens(text: str) -> list[Token]:
    """The SQL tokens of a template that stand outside Jinja; none if it cannot be told."""
    blank = _JINJA.sub(lambda match: " " * len(match.group()), text)
    try:
        return list(Tokenizer(dialect="duckdb").tokenize(blank))
    except TokenError:
        return []


def splice(text: str, token: Token, new: str) -> str:
    """``text`` with one of its tokens replaced."""
    return text[: token.start] + new + text[token.end + 1 :]


# Edits that mean nothing


@edit("cosmetic: comment", 4)
def _comment(rng: random.Random, state: State) -> str | None:
    path = some_sql(rng, state)
    text = state.files[path]
    found = tokens(text)[1:]
    if not found:
        return None
    place = rng.choice(found).start
    comment = rng.choice(
        ["/* note */ ", "-- note\n", "{# note #}", "/* it's */ ", "{#- 'x -#} ", "-- {{ 1 }}\n"]
    )
    state.files[path] = text[:place] + comment + text[place:]
    return f"{path}: {comment!r} at {place}"


@edit("cosmetic: whitespace", 3)
def _whitespace(rng: random.Random, state: State) -> str | None:
    path = some_sql(rng, state)
    text = state.files[path]
    new = rng.choice(
        [
            text + "\n\n",
            text.replace("\n", "\r\n"),
            re.sub(r"^    ", "\t", text, flags=re.MULTILINE),
            text.replace(",\n", "\n    , "),
            text.replace("{{ ", "{{").replace(" }}", "}}"),
            text.replace(", ", " ,  "),
        ]
    )
    if new == text:
        return None
    state.files[path] = new
    return f"{path}: other whitespace"


@edit("cosmetic: keyword case", 3)
def _case(rng: random.Random, state: State) -> str | None:
    path = some_sql(rng, state)
    text = state.files[path]
    kinds = {TokenType.VAR, TokenType.STRING, TokenType.IDENTIFIER, TokenType.NUMBER}
    for token in reversed(tokens(text)):
        if token.token_type not in kinds and token.text.isalpha() and rng.random() < 0.7:
            text = splice(text, token, text[token.start : token.end + 1].upper())
    if text == state.files[path]:
        return None
    state.files[path] = text
    return f"{path}: keywords in upper case"


@edit("a name in title case", 2)
def _name_case(rng: random.Random, state: State) -> str | None:
    path = some_sql(rng, state)
    text = state.files[path]
    found = [t for t in tokens(text) if t.token_type == TokenType.VAR]
    if not found:
        return None
    token = rng.choice(found)
    state.files[path] = splice(text, token, token.text.title())
    return f"{path}: {token.text} in title case"


@edit("cosmetic: comment in a macro", 3)
def _macro_comment(rng: random.Random, state: State) -> str | None:
    path = rng.choice(macro_files(state))
    text = state.files[path]
    places = [m.start() for m in re.finditer(r"\{% (?:end)?macro", text)]
    if not places:
        return None
    place = rng.choice(places)
    new = rng.choice(["{# note #}", "\n\n", "{#- it's -#}"])
    state.files[path] = text[:place] + new + text[place:]
    return f"{path}: {new!r} at {place}"


@edit("cosmetic: Jinja spelling", 2)
def _jinja(rng: random.Random, state: State) -> str | None:
    path = rng.choice([*models(state), *macro_files(state)])
    text = state.files[path]
    swaps = [("'", '"'), (", ", ","), ("{{ ", "{{- "), (" }}", " -}}"), ("(", "( ")]
    old, new = rng.choice(swaps)
    inside = [m for m in re.finditer(r"\{\{.*?\}\}", text, re.DOTALL) if old in m.group()]
    if not inside:
        return None
    match = rng.choice(inside)
    changed = match.group().replace(old, new)
    state.files[path] = text[: match.start()] + changed + text[match.end() :]
    return f"{path}: {match.group()} → {changed}"


@edit("cosmetic: file moved", 2)
def _move(rng: random.Random, state: State) -> str | None:
    path = rng.choice([p for p in models(state) if "/staging/" in p or "/marts/" in p])
    folder, _, name = path.rpartition("/")
    new = f"{folder}/deeper/{name}"
    state.files[new] = state.files.pop(path)
    return f"{path} → {new}"


@edit("cosmetic: unused macro", 1)
def _unused_macro(rng: random.Random, state: State) -> str | None:
    name = f"unused_{rng.randrange(100)}"
    state.files[f"macros/{name}.sql"] = f"{{% macro {name}() %}}{rng.random()}{{% endmacro %}}\n"
    return f"a macro {name} that nobody calls"


# Edits of a token, in models, macros and snapshots alike

_OPERATORS = {
    ">": [">=", "<", "<>"],
    ">=": [">", "="],
    "<": ["<=", ">"],
    "<=": ["<"],
    "=": ["<>", ">="],
    "<>": ["="],
    "+": ["-"],
    "-": ["+"],
    "*": ["+"],
    "/": ["//", "*"],
    "and": ["or"],
    "or": ["and"],
    "left": ["right", "full"],
    "inner": ["left", "full"],
    "full": ["left"],
    "asc": ["desc"],
    "desc": ["asc"],
    "union": ["union all", "except", "intersect"],
    "except": ["intersect"],
    "intersect": ["except"],
    "distinct": [""],
    "in": ["not in"],
    "not": [""],
    "exists": ["not exists"],
    "sum": ["max", "min", "avg", "count"],
    "max": ["min"],
    "min": ["max"],
    "count": ["max"],
    "lower": ["upper"],
    "upper": ["lower"],
    "trim": ["ltrim"],
    "floor": ["ceil"],
    "round": ["floor"],
    "semi": ["anti"],
    "anti": ["semi"],
    "timestamp": ["date"],
    "date": ["timestamp"],
    "bigint": ["integer"],
    "integer": ["bigint", "varchar"],
    "preceding": ["following"],
}


@edit("token: literal", 5)
def _literal(rng: random.Random, state: State) -> str | None:
    path = rng.choice([*models(state), *macro_files(state), *macro_files(state)])
    text = state.files[path]
    kinds = (TokenType.NUMBER, TokenType.STRING)
    found = [t for t in tokens(text) if t.token_type in kinds]
    if not found:
        return None
    token = rng.choice(found)
    if token.token_type == TokenType.NUMBER:
        new = rng.choice(["0", "1", "2", "3", "7", "15", f"{token.text}0", f"{token.text}.0"])
    else:
        others = ["paid", "open", "de", "", token.text.upper(), token.text + " ", "no  ne", "no-ne"]
        new = f"'{rng.choice(others)}'"
    if new in (token.text, f"'{token.text}'"):
        return None
    state.files[path] = splice(text, token, new)
    return f"{path}: {token.text} → {new}"


@edit("token: operator or function", 5)
def _operator(rng: random.Random, state: State) -> str | None:
    path = rng.choice([*models(state), *models(state), *macro_files(state)])
    text = state.files[path]
    found = [t for t in tokens(text) if t.text.lower() in _OPERATORS]
    if not found:
        return None
    token = rng.choice(found)
    new = rng.choice(_OPERATORS[token.text.lower()])
    state.files[path] = splice(text, token, new)
    return f"{path}: {token.text} → {new} at {token.start}"


@edit("token: name", 3)
def _name(rng: random.Random, state: State) -> str | None:
    path = some_sql(rng, state)
    text = state.files[path]
    # What stands before a parenthesis is a function, what stands before a dot a table.
    found = [
        (t, text[t.end + 1 : t.end + 2] in ("(", "."))
        for t in tokens(text)
        if t.token_type == TokenType.VAR
    ]
    if len(found) < 2:
        return None
    (token, kind), (other, other_kind) = rng.sample(found, 2)
    if kind or other_kind:
        return None
    if token.text == other.text:
        return None
    state.files[path] = splice(text, token, other.text)
    return f"{path}: {token.text} → {other.text} at {token.start}"


# Edits of Jinja


@edit("jinja: ref", 3)
def _ref(rng: random.Random, state: State) -> str | None:
    path = some_sql(rng, state)
    text = state.files[path]
    refs = list(re.finditer(r"\{\{ ref\('(\w+)'\) \}\}", text))
    if not refs:
        return None
    match = rng.choice(refs)
    alike = {
        "stg_orders": ["valid_orders", "orders_enriched"],
        "valid_orders": ["stg_orders"],
        "stg_customers": ["customer_regions", "customers_full"],
        "customer_regions": ["stg_customers"],
        "raw_orders": ["stg_orders"],
        "raw_customers": ["customers_history"],
        "customer_totals": ["customer_summary"],
        "customer_summary": ["customer_totals"],
        "stg_events": ["events_batched", "events_kept"],
        "events_kept": ["events_batched"],
    }
    if match[1] not in alike:
        return None
    new = match.group().replace(match[1], rng.choice(alike[match[1]]))
    state.files[path] = text[: match.start()] + new + text[match.end() :]
    return f"{path}: {match.group()} → {new}"


@edit("jinja: inline or extract", 3)
def _inline(rng: random.Random, state: State) -> str | None:
    """The same value, written in another way."""
    swaps = [
        ("{{ var('min_amount') }}", "5"),
        ('{{ var("home_country") }}', "de"),
        ("{{ clean('country') }}", "nullif(lower(trim(country)), '')"),
        ("{{ to_cents('amount') }}", "cast(round(round(coalesce(amount, 0), 2) * 100) as bigint)"),
        ("{{ default_amount() }}", "0"),
        ("digits=2", "digits=1 + 1"),
        ("* 1.19", "* {{ '1.19' }}"),
        ("'paid'", "'{{ \"paid\" }}'"),
        ("where value > 10", "where value > {% set ten = 10 %}{{ ten }}"),
        ("as names", "as {% if true %}names{% else %}others{% endif %}"),
        ("{{ var('step') }}", "10"),
    ]
    old, new = rng.choice(swaps)
    paths = [p for p in [*models(state), *macro_files(state)] if old in state.files[p]]
    if not paths:
        return None
    path = rng.choice(paths)
    state.files[path] = state.files[path].replace(old, new, 1)
    return f"{path}: {old} → {new}"


@edit("jinja: macro body", 4)
def _macro_body(rng: random.Random, state: State) -> str | None:
    swaps = [
        ("digits=2", "digits=1"),
        ("digits=2", "digits=0"),
        ("* 100", "* 10"),
        ("default_amount() %}0", "default_amount() %}1"),
        ("nullif(lower(trim({{ column }})), '')", "lower(trim({{ column }}))"),
        ("nullif(lower(trim({{ column }})), '')", "nullif(trim({{ column }}), '')"),
        ("else 0 end", "else null end"),
        ("['paid', 'open']", "['open', 'paid']"),
        ("['paid', 'open']", "['paid', 'open', 'void']"),
        ("var('step', 1)", "var('step', 2)"),
        ("var('step', 1)", "var('stride', 1)"),
        ("upper(trim", "trim"),
        ("as integer)\n", "as bigint)\n"),
        ("soundness__label", "soundness__tag"),
        ("is null{% endmacro", "is not null{% endmacro"),
        ("coalesce(lower", "coalesce(upper"),
        ("'shapes')(", "'soundness')("),
    ]
    old, new = rng.choice(swaps)
    paths = [p for p in [*models(state), *macro_files(state)] if old in state.files[p]]
    if not paths:
        return None
    path = rng.choice(paths)
    state.files[path] = state.files[path].replace(old, new, 1)
    return f"{path}: {old!r} → {new!r}"
