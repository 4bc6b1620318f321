"""Which expressions are understood, and give the same for a row in every run."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names, Opaque, called

_REFUSED: Mapping[type[exp.Expr], str] = {
    exp.Columns: "COLUMNS()",
    exp.Command: "a command in an expression",
    exp.DynamicIdentifier: "a name in a string: identifier()",
    exp.Parameter: "a variable, or a column by its position",
    exp.Pivot: "a pivot",
    exp.Placeholder: "a variable, or a column by its position",
    exp.PositionalColumn: "a column by its position",
    exp.SessionParameter: "a variable",
    exp.Table: "a table in an expression",
}
# The time is among them: what is built later has another.
_VOLATILE = frozenset(
    {
        *(exp.Encrypt, exp.EncryptRaw, exp.Localtime, exp.Localtimestamp, exp.NextValueFor),
        *(exp.Normal, exp.Rand, exp.Randn, exp.Randstr, exp.Seq1, exp.Seq2, exp.Seq4, exp.Seq8),
        *(exp.SessionUser, exp.Shuffle, exp.Systimestamp, exp.Uniform, exp.UtcDate, exp.UtcTime),
        *(exp.UtcTimestamp, exp.Uuid, exp.Zipf),
    }
)
_VOLATILE_NAMES = re.compile(r"Current|AI|ML")
# Built-in functions that sqlglot has no class for, and that read nothing but their arguments.
_BUILT_IN = {
    "DuckDB": """
        ARBITRARY ARRAY_AGGREGATE ARRAY_APPLY ARRAY_EXTRACT ARRAY_HAS_ANY ARRAY_INDEXOF
        ARRAY_TRANSFORM ARRAY_UNIQUE ARRAY_WHERE BAR BASE64 BIN BIT_COUNT CARDINALITY CENTURY
        DATE_PART DATE_SUB DATEPART DATESUB DAYS_IN_MONTH DECADE DIVIDE ELEMENT_AT ENTROPY EPOCH_NS
        EPOCH_US ERA EVEN FAVG FDIV FMOD FORMAT_BYTES FSUM GCD GEOMEAN HAMMING HASH HISTOGRAM
        ISFINITE ISOYEAR JACCARD JARO_SIMILARITY JSON_ARRAY_LENGTH JSON_CONTAINS JSON_EXISTS
        JSON_GROUP_ARRAY JSON_GROUP_OBJECT JSON_MERGE_PATCH JSON_STRUCTURE JSON_VALID JSON_VALUE
        JULIAN KAHAN_SUM LCM LIST_AGGR LIST_AGGREGATE LIST_ANY_VALUE LIST_APPLY LIST_AVG LIST_CAT
        LIST_COUNT LIST_ELEMENT LIST_EXTRACT LIST_FIRST LIST_HAS_ALL LIST_INDEXOF LIST_INTERSECT
        LIST_LAST LIST_MEDIAN LIST_MODE LIST_POSITION LIST_PRODUCT LIST_REDUCE LIST_REVERSE
        LIST_SELECT LIST_SLICE LIST_STRING_AGG LIST_SUM LIST_UNIQUE LIST_WHERE LIST_ZIP MAD
        MAKE_TIMESTAMPTZ MAP_CONCAT MAP_CONTAINS MAP_ENTRIES MAP_EXTRACT MAP_VALUES MD5_NUMBER MEAN
        MICROSECOND MILLENNIUM MILLISECOND MISMATCHES NANOSECOND OCTET_LENGTH ORD PREFIX PRINTF
        PRODUCT REGEXP_ESCAPE REGEXP_SPLIT_TO_ARRAY ROUND_EVEN ROUNDBANKERS ROW SEM SIGNBIT
        STRIP_ACCENTS STRLEN STRUCT_CONCAT STRUCT_INSERT SUFFIX SUMKAHAN TIMEZONE TO_BASE TO_HOURS
        TO_JSON TO_MICROSECONDS TO_MILLISECONDS TO_MINUTES TO_MONTHS TO_QUARTERS TO_SECONDS
        TO_WEEKS TO_YEARS TRY_STRPTIME UNBIN URL_DECODE URL_ENCODE WAVG WEEKDAY WEIGHTED_AVG
        YEARWEEK""",
    "Snowflake": """
        ARRAYS_TO_OBJECT AS_ARRAY AS_BOOLEAN AS_CHAR AS_DATE AS_INTEGER AS_NUMBER AS_OBJECT AS_REAL
        AS_VARCHAR CONDITIONAL_CHANGE_EVENT CONDITIONAL_TRUE_EVENT HASH HAVERSINE IS_BOOLEAN IS_CHAR
        IS_DATE IS_DECIMAL IS_INTEGER IS_OBJECT OBJECT_DELETE OBJECT_PICK PARSE_XML RATIO_TO_REPORT
        TO_OBJECT TO_TIMESTAMP TO_TIMESTAMP_LTZ TO_TIMESTAMP_NTZ TO_TIMESTAMP_TZ TRY_TO_TIMESTAMP
        TRY_TO_TIMESTAMP_LTZ TRY_TO_TIMESTAMP_NTZ TRY_TO_TIMESTAMP_TZ""",
}
_KNOWN = {dialect: frozenset(names.split()) for dialect, names in _BUILT_IN.items()}
_ROW_FUNCTIONS = (
    *(exp.Explode, exp.Flatten, exp.GenerateSeries, exp.Generator, exp.SplitToTable),
    *(exp.Unnest, exp.Values),
)
_ROW_FUNCTION_NAMES = frozenset({"FLATTEN", "STRTOK_SPLIT_TO_TABLE"})


def refuse_unknown(node: exp.Expr, names: Names) -> None:
    """Raises:
    Opaque: ``node`` itself may give something else for the same row, or is not understood.
    """
    if why := _REFUSED.get(type(node)):
        raise Opaque(why)
    if isinstance(node, exp.Column):
        if node.args.get("join_mark"):
            raise Opaque("an outer join written (+)")
        if node.args.get("table") and node.name.upper() == "NEXTVAL":
            raise Opaque("a sequence")
    elif isinstance(node, exp.Star):
        if any(node.args.values()) or not isinstance(node.parent, exp.Func):
            raise Opaque("a star inside an expression")
    elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func):
        raise Opaque(f"calls {node.sql(dialect=names.dialect)}, which is not known")
    elif isinstance(node, exp.Anonymous):
        if node.name.upper() not in _KNOWN[type(names.dialect).__name__]:
            raise Opaque(f"calls {node.name}(), which is not known")
    elif type(node) in _VOLATILE or _VOLATILE_NAMES.match(type(node).__name__):
        name = called(node) or (node.sql_name() if isinstance(node, exp.Func) else "?")
        raise Opaque(f"calls {name.lower()}, which is not the same in every run")


def yields_rows(function: exp.Expr) -> bool:
    """Whether ``function``, in FROM, makes rows of its arguments and of nothing else."""
    named = isinstance(function, exp.Anonymous) and function.name.upper() in _ROW_FUNCTION_NAMES
    return named or isinstance(function, _ROW_FUNCTIONS)


def star_of(item: exp.Expr) -> exp.Star | None:
    """The star that ``item`` of a SELECT list is: ``*`` or ``t.*``."""
    star = item.this if isinstance(item, exp.Column) else item
    return star if isinstance(star, exp.Star) else None


def is_many(item: exp.Expr) -> bool:
    """Whether an item of a SELECT list may be several columns: UNNEST makes some of a struct."""
    many = star_of(item) is not None or isinstance(item, exp.Aliases)
    return many or item.find(exp.Explode, exp.Unnest) is not None
