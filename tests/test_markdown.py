"""Texts of a warehouse, in Markdown: whatever they hold is shown, and nothing of it is markup."""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from dbt_orchestration import markdown

NASTY = [
    "a | b", "**bold** _it_ ~~no~~", "`code` ``` more", "<script>alert(1)</script>", "[a](http:x)",
    "![a](b)", "# heading", "- item", "1. item", "&amp; &lt;", "\\| \\", "<!-- c -->", "한국어 😀",
    "| --- |", "x\n\n# y", "~~~", "[x]: y", "https://example.com/a_b",
]  # fmt: skip


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


@pytest.mark.parametrize("text", NASTY)
def test_a_text_in_a_line_is_shown_as_it_is(text: str) -> None:
    assert rendered(f"a {markdown.inline(text)} b") == (
        f"<p>a {html.escape(' '.join(text.split()))} b</p>\n"
    )


@pytest.mark.parametrize("text", NASTY)
def test_a_text_in_a_table_is_one_cell(text: str) -> None:
    shown = rendered(markdown.table(["one", "two"], [[text, "x"]]))
    cells = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    assert cells == [html.escape(" ".join(text.split())), "x"]


@pytest.mark.parametrize("text", NASTY)
def test_a_link_in_a_table_is_one_cell(text: str) -> None:
    link = markdown.link(markdown.inline(text), "https://acme.com/?a|b>c")
    shown = rendered(markdown.table(["one", "two"], [[link, "x"]]))
    cells = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    label = html.escape(" ".join(text.split()))
    assert cells == [f'<a href="https://acme.com/?a%7Cb%3Ec">{label}</a>', "x"]


@pytest.mark.parametrize("text", NASTY)
def test_code_is_shown_as_it_is(text: str) -> None:
    shown = rendered(f"before\n\n{markdown.code(text, 'sql')}\n\nafter")
    assert f'<code class="language-sql">{html.escape(text)}\n</code>' in shown
    assert shown.endswith("<p>after</p>\n")


def test_what_is_left_out_is_said() -> None:
    assert markdown.shortened("abcdef", 6) == "abcdef"
    assert markdown.shortened("a" * 2_000, 3) == "aaa … and 1,997 characters more"
