"""All that is said is said in each language, of the same facts."""

from __future__ import annotations

import string
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from dbt_orchestration.automation.telling.incidents import Kind
from dbt_orchestration.automation.telling.texts import TEXTS


def named(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def said(texts: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in fields(texts):
        value = getattr(texts, each.name)
        if isinstance(value, str):
            value = {"": value}
        elif is_dataclass(value):
            value = said(value)
        found |= {f"{each.name} {key}".strip(): text for key, text in value.items()}
    return found


@pytest.mark.parametrize("language", TEXTS)
def test_each_language_says_everything_of_the_same_facts(language: str) -> None:
    english, other = said(TEXTS["en"]), said(TEXTS[language])
    assert english.keys() == other.keys()
    for key, text in english.items():
        assert named(other[key]) == named(text), key
    assert {f"{what} {kind}" for what in ("wrong", "over") for kind in Kind} <= other.keys()
