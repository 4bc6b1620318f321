"""What one statement does to a warehouse, by how it begins. What is not listed is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

# What stands for a value that is not known, and for the relation of the node itself.
GAP = "\0"
THIS = "\1"
# As many tokens of a statement are looked at.
MOST_TOKENS = 16


class Effect(Enum):
    """What a statement changes.

    NOTHING of rows, columns or access. ACCESS, labels or storage of a relation. It WRITES
    a relation, or whatever else has a name. Of an UNKNOWN one nothing is known.
    """

    NOTHING = 0
    ACCESS = 1
    WRITES = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``name`` is the last part of what it writes, in lower case, or ``THIS``."""

    effect: Effect
    name: str = ""


_NOTHING = Statement(Effect.NOTHING)
_ACCESS = Statement(Effect.ACCESS)
_UNKNOWN = Statement(Effect.UNKNOWN)

# In a statement that seems to read they say that it does more.
_WRITING = frozenset(
    {"insert", "update", "delete", "merge", "into", "truncate", "call", "nextval", "execute"}
    | {"postgres_execute", "mysql_execute"}
)
_SELECTS = frozenset({"select", "with", "values", "from", "("})
_READS = frozenset({"show", "describe", "desc", "explain", "list", "ls"}) | _SELECTS
_TRANSACTION = frozenset({"begin", "commit", "start", "transaction", "work"})
# Parameters of a session that change no row of any statement.
_LABELS = frozenset(
    {"query_tag", "statement_timeout_in_seconds", "statement_queued_timeout_in_seconds"}
    | {"lock_timeout", "use_cached_result", "abort_detached_query", "log_level", "trace_level"}
    | {"client_session_keep_alive", "statement_timeout"}
)
_BEFORE_KIND = frozenset(
    {"or", "replace", "alter", "temp", "temporary", "transient", "volatile", "local", "global"}
    | {"secure", "recursive", "materialized", "dynamic", "external", "iceberg", "hybrid", "event"}
    | {"aggregate", "unlogged", "unique"}
)
_RELATIONS = frozenset({"table", "view"})
_KINDS = _RELATIONS | {"function", "procedure", "macro", "sequence", "stage", "type", "tag"}
_POLICIES = (["masking", "policy"], ["row", "access", "policy"])
# What ALTER may do to a relation and leave its rows and columns alone: how the action begins.
_HARMLESS = tuple(
    words.split()
    for words in (
        "set tag",
        "unset tag",
        "set comment",
        "unset comment",
        "set change_tracking",
        "set data_retention_time_in_days",
        "set max_data_extension_time_in_days",
        "set secure",
        "unset secure",
        "cluster by",
        "drop clustering",
        "recluster",
        "suspend recluster",
        "resume recluster",
        "add search optimization",
        "drop search optimization",
        "add row access policy",
        "drop row access policy",
        "owner to",
    )
)
_OF_A_COLUMN = tuple(
    words.split()
    for words in (
        "set masking policy",
        "unset masking policy",
        "set tag",
        "unset tag",
        "comment",
    )
)
# RENAME and SWAP change two names.
_ACTIONS = frozenset({"add", "drop", "alter", "modify", "set", "unset"})
# What stands between a statement's first word and the name of what it writes.
_INTO = {
    "insert": (["into"], ["overwrite", "into"]),
    "merge": (["into"],),
    "copy": (["into"],),
    "delete": (["from"],),
    "update": ([],),
    "truncate": ([],),
}
# Where a name is expected they say that more is going on.
_NO_NAMES = frozenset(
    {"only", "table", "identifier", "if", "with", "select", "values", "all", "first", "when", "or"}
)


def is_writing(word: str) -> bool:
    """Whether a word makes a statement that begins as one that reads another kind of one."""
    word = word.lower()
    return word in _WRITING or "system$" in word


def classified(tokens: tuple[str, ...], writes: bool, selects_write: bool) -> Statement:
    """What a statement does.

    Args:
        tokens: its first ones.
        writes: one of all its words ``is_writing``.
        selects_write: SELECT may call a function that writes.
    """
    words = [token.lower() for token in tokens]
    first = words[0]
    if first in _READS:
        more = writes or (selects_write and first in _SELECTS)
        return _UNKNOWN if more else _NOTHING
    known = _BY_FIRST.get(first)
    return known(words) if known else _UNKNOWN


def _transaction(words: list[str]) -> Statement:
    # A script of Snowflake's begins with BEGIN, too.
    return _NOTHING if set(words) <= _TRANSACTION else _UNKNOWN


def _use(words: list[str]) -> Statement:
    return _NOTHING if words[1:2] == ["warehouse"] else _UNKNOWN


def _set(words: list[str]) -> Statement:
    return _NOTHING if words[1:2] == ["query_tag"] else _UNKNOWN


def _create(words: list[str]) -> Statement:
    i = _kind(words)
    if words[i : i + 4] == ["schema", "if", "not", "exists"]:
        return _NOTHING
    if words[i : i + 1] in (["index"], ["tag"]) or _begins(words[i:], _POLICIES):
        return _ACCESS
    return _named(words)


def _alter(words: list[str]) -> Statement:
    what = words[1:2]
    if what == ["warehouse"]:
        return _NOTHING
    if what == ["session"]:
        return _session(words)
    if what == ["tag"] or _begins(words[1:], _POLICIES):
        return _ACCESS
    return _relation(words)


def _session(words: list[str]) -> Statement:
    how, said = words[2:3], words[3:]
    set_ = [words[i - 1] for i, word in enumerate(words) if word == "=" and i]
    names = set_ if how == ["set"] else [word for word in said if word != ","]
    known = how in (["set"], ["unset"]) and names and set(names) <= _LABELS
    return _NOTHING if known and len(words) < MOST_TOKENS else _UNKNOWN


def _relation(words: list[str]) -> Statement:
    """ALTER of a table or view."""
    i = _kind(words)
    if words[i : i + 1] not in (["table"], ["view"]):
        return _UNKNOWN
    action = words[_after_name(words, _start(words, i + 1)) :]
    column = action[:2] in (["modify", "column"], ["alter", "column"])
    if _begins(action[3:], _OF_A_COLUMN) if column else _begins(action, _HARMLESS):
        return _ACCESS
    return _named(words) if action and action[0] in _ACTIONS else _UNKNOWN


def _written(words: list[str]) -> Statement:
    for said in sorted(_INTO[words[0]], key=len, reverse=True):
        if words[1 : 1 + len(said)] == said:
            i = 1 + len(said)
            return _target(words, _start(words, i + (words[i : i + 1] == ["table"])))
    return _UNKNOWN


def _named(words: list[str]) -> Statement:
    """CREATE, DROP or ALTER of something with a name."""
    i = _kind(words)
    if words[i : i + 2] == ["file", "format"]:
        i += 1
    elif i >= len(words) or words[i] not in _KINDS:
        return _UNKNOWN
    return _target(words, _start(words, i + 1))


def _kind(words: list[str]) -> int:
    """Where the kind of thing stands that is created, dropped or altered."""
    i = 1
    while i < len(words) and words[i] in _BEFORE_KIND:
        i += 1
    return i


def _start(words: list[str], i: int) -> int:
    """Where the name begins: behind IF EXISTS."""
    for said in (["if", "not", "exists"], ["if", "exists"]):
        if words[i : i + len(said)] == said:
            return i + len(said)
    return i


def _target(words: list[str], i: int) -> Statement:
    end = _after_name(words, i)
    name = words[end - 1].lstrip('"') if i < end else ""
    odd = not name or GAP in name or name[0] in "@'%" or name in _NO_NAMES
    more = end >= MOST_TOKENS or words[end : end + 1] == [","]
    if odd or more or (THIS in name and name != THIS):
        return _UNKNOWN
    return Statement(Effect.WRITES, name)


def _after_name(words: list[str], i: int) -> int:
    """The place behind a name such as ``a."b".c``."""
    while i < len(words):
        i += 1
        if words[i : i + 1] != ["."]:
            return i
        i += 1
    return i


def _begins(words: list[str], known: Iterable[list[str]]) -> bool:
    return any(words[: len(beginning)] == beginning for beginning in known)


_BY_FIRST: Mapping[str, Callable[[list[str]], Statement]] = {
    **dict.fromkeys(("analyze", "vacuum", "checkpoint", "comment"), lambda _: _NOTHING),
    **dict.fromkeys(("grant", "revoke"), lambda _: _ACCESS),
    **dict.fromkeys(("begin", "commit", "start"), _transaction),
    **dict.fromkeys(("set", "unset"), _set),
    **dict.fromkeys(_INTO, _written),
    "use": _use,
    "create": _create,
    "alter": _alter,
    "drop": _named,
}
