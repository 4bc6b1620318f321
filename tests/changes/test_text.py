"""What counts in the text of a model, a macro and a Python model, and what its Jinja mentions."""

from __future__ import annotations

import pytest

from dbt_orchestration.changes.text import read_macro, read_python, read_sql

# What the case shows, one text, another text.
SAME_SQL = [
    ("a comment to the end of the line", "select 1 -- one\n, 2", "select 1\n, 2"),
    ("a comment between marks", "select a/* the a */, b", "select a /**/, b"),
    ("a comment over several lines", "select /* a\nb\nc */ 1", "select 1"),
    ("whitespace", "select  a,\n\tb\r\nfrom c", "select a, b from c"),
    ("whitespace around the text", "\n  select 1\n\n", "select 1"),
    ("a comment around the text", "-- one\nselect 1 -- two", "select 1"),
    ("a comment of Jinja", "select 1{# one #}, {{ x }}", "select 1, {{ x }}"),
    ("whitespace inside braces", "select {{f( a , b )}}", "select {{  f(a,b)  }}"),
    ("whitespace inside a block", "{%if a%}x{%endif%}", "{% if  a %}x{% endif %}"),
    ("marks that strip nothing", "{% if a -%}x{%- endif %}", "{% if a %}x{% endif %}"),
    ("a comment mark inside a comment", "select 1 -- a /* b\n, 2", "select 1\n, 2"),
    ("a quote inside a comment", "select 1 -- it's\n, 'a'", "select 1\n, 'a'"),
    ("a comment of Jinja in a comment of SQL", "select 1 --{# x #}\n, 2", "select 1 -- y\n, 2"),
    ("a comment after a string with Jinja", "select '{{ x }}' -- a\n", "select '{{ x }}' -- b\n"),
    ("a comment at the end of a text with Jinja", "select {{ x }}\n-- end", "select {{ x }}"),
    ("a comment next to a text between dollars", "select $$a$$ -- b", "select $$a$$"),
]
OTHER_SQL = [
    ("another name", "select a", "select b"),
    ("whitespace that parts two names", "select a b", "select ab"),
    ("a comment that parts two names", "select a/**/b", "select ab"),
    ("the case of a name, which only the dialect can tell", "select a", "select A"),
    ("whitespace inside a string", "select 'a  b'", "select 'a b'"),
    ("the end of a line inside a string", "select 'a\nb'", "select 'a b'"),
    ("a comment mark inside a string", "select 'a -- b'", "select 'a'"),
    ("marks of a comment inside a string", "select 'a /* b */'", "select 'a '"),
    ("a quote inside a string", "select 'it''s -- a'", "select 'it''s -- b'"),
    ("a comment mark inside a quoted name", 'select "a--b"', 'select "a--c"'),
    ("whitespace between dollars", "select $$a  b$$", "select $$a b$$"),
    ("whitespace between dollars with a tag", "select $x$a  b$x$", "select $x$a b$x$"),
    ("a comment mark between dollars", "select $$a -- b$$", "select $$a -- c$$"),
    ("a backslash before a quote", r"select 'a\' -- b'", r"select 'a\' -- c'"),
    ("a hint", "select /*+ a */ 1", "select /*+ b */ 1"),
    ("Jinja in a comment runs", "select 1 -- {{ a() }}", "select 1 -- {{ b() }}"),
    ("Jinja in a comment between marks runs", "/* {{ a() }} */ select 1", "select 1"),
    ("whitespace inside a string of Jinja", "{{ 'a  b' }}", "{{ 'a b' }}"),
    ("a string and a name", "{{ 'a' }}", "{{ a }}"),
    ("a string and a number", "{{ '1' }}", "{{ 1 }}"),
    ("whitespace next to Jinja", "select a{{ b }}", "select a {{ b }}"),
    ("whitespace that Jinja strips", "select a {{ b }}", "select a {{- b }}"),
    ("whitespace inside a string with Jinja", "select '{{ a }}  b'", "select '{{ a }} b'"),
    (
        "whitespace in a block that may end up in a string",
        "{% set x %}a  b{% endset %}select '{{ x }}'",
        "{% set x %}a b{% endset %}select '{{ x }}'",
    ),
    (
        "a comment in a block that may end up in a string",
        "{% call f() %}a -- b{% endcall %}",
        "{% call f() %}a{% endcall %}",
    ),
    (
        "text that Jinja leaves alone",
        "{% raw %}{{ a  b }}{% endraw %}",
        "{% raw %}{{ a b }}{% endraw %}",
    ),
    (
        "a block that a comment leaves open",
        "a -- {% if x %}\nb{% endif %}",
        "a -- {% if y %}\nb{% endif %}",
    ),
    ("the end of a line after two slashes", "select 1 // x\n, 2", "select 1 // x , 2"),
    ("the end of a line after Jinja", "{{ note() }}\nselect 1", "{{ note() }} select 1"),
    ("text that Jinja cannot read", "select {{ a", "select {{ b"),
    ("a string that never ends", "select 'a  b", "select 'a b"),
]
SAME_MACROS = [
    (
        "a comment of Jinja",
        "{% macro m() %}{# one #}a{% endmacro %}",
        "{% macro m() %}a{% endmacro %}",
    ),
    (
        "whitespace inside braces",
        "{% macro m( a ) %}{{a}}{% endmacro %}",
        "{%macro m(a)%}{{ a }}{%endmacro%}",
    ),
]
OTHER_MACROS = [
    (
        "whitespace in its text",
        "{% macro m() %}a  b{% endmacro %}",
        "{% macro m() %}a b{% endmacro %}",
    ),
    (
        "a comment of SQL in its text",
        "{% macro m() %}a -- b{% endmacro %}",
        "{% macro m() %}a{% endmacro %}",
    ),
    (
        "whitespace that is stripped",
        "{% macro m() %} a{% endmacro %}",
        "{% macro m() -%} a{% endmacro %}",
    ),
    (
        "the default of an argument",
        "{% macro m(a=1) %}{% endmacro %}",
        "{% macro m(a=2) %}{% endmacro %}",
    ),
]
SAME_PYTHON = [
    (
        "a comment",
        "def model(dbt, session):\n    return 1  # one\n",
        "def model(dbt, session):\n    return 1\n",
    ),
    (
        "formatting",
        "def model( dbt,session ):\n  return (1)",
        "def model(dbt, session):\n    return 1",
    ),
    ("quotes", "x = 'a'", 'x = "a"'),
    (
        "a documentation string",
        'def model(dbt, session):\n    """One."""\n    return 1',
        'def model(dbt, session):\n    """Two."""\n    return 1',
    ),
]
OTHER_PYTHON = [
    ("another value", "x = 1", "x = 2"),
    ("a string", "x = 'a # b'", "x = 'a'"),
    ("the only string of a function", 'def f():\n    "a"', 'def f():\n    "b"'),
    (
        "a documentation string that is read",
        'def f():\n    "a"\n    return f.__doc__',
        'def f():\n    "b"\n    return f.__doc__',
    ),
    ("code that does not parse", "def model(:", "def model(: "),
]


def _named(cases: list[tuple[str, str, str]]) -> list[object]:
    return [pytest.param(one, other, id=name) for name, one, other in cases]


@pytest.mark.parametrize(("one", "other"), _named(SAME_SQL))
def test_sql_that_says_the_same(one: str, other: str) -> None:
    assert read_sql(one).content == read_sql(other).content


@pytest.mark.parametrize(("one", "other"), _named(OTHER_SQL))
def test_sql_that_says_something_else(one: str, other: str) -> None:
    assert read_sql(one).content != read_sql(other).content


@pytest.mark.parametrize(("one", "other"), _named(SAME_MACROS))
def test_macros_that_say_the_same(one: str, other: str) -> None:
    assert read_macro(one).content == read_macro(other).content


@pytest.mark.parametrize(("one", "other"), _named(OTHER_MACROS))
def test_macros_that_say_something_else(one: str, other: str) -> None:
    assert read_macro(one).content != read_macro(other).content


@pytest.mark.parametrize(("one", "other"), _named(SAME_PYTHON))
def test_python_that_says_the_same(one: str, other: str) -> None:
    assert read_python(one).content == read_python(other).content


@pytest.mark.parametrize(("one", "other"), _named(OTHER_PYTHON))
def test_python_that_says_something_else(one: str, other: str) -> None:
    assert read_python(one).content != read_python(other).content


def test_what_jinja_mentions() -> None:
    text = read_sql(
        "select {{ money.cents('a') }} from {{ ref(\"orders\") }}"
        " where x = {{ var('first', 1) }} and y = {{ var(name) }}"
        "{% do adapter.dispatch('f', 'shop')() %}{{ context['g'] }}{{ context[h] }} -- {{ z }}"
    )
    assert {"money", "cents", "ref", "var", "name", "adapter", "dispatch", "h", "z"} <= text.names
    assert {"a", "orders", "first", "f", "shop", "g"} <= text.strings
    assert {("cents", "a"), ("ref", "orders"), ("var", "first"), ("var", None)} <= text.calls
    assert ("dispatch", "f") in text.calls
    assert {("money", "cents"), ("adapter", "dispatch"), ("context", "g")} <= text.attributes
    assert ("context", "*") in text.attributes


def test_an_argument_that_is_only_half_a_literal_is_computed() -> None:
    assert read_sql("{{ var('first' ~ name) }}").calls == {("var", None)}


def test_comments_of_jinja_mention_nothing() -> None:
    text = read_sql("select 1 {# {{ var('first') }} #}")
    assert (text.names, text.strings, text.calls) == (frozenset(), frozenset(), frozenset())


def test_raw_text_mentions_nothing() -> None:
    assert "a" not in read_sql("{% raw %}{{ a }}{% endraw %}").names
