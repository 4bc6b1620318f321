"""What people wrote: YAML read strictly, and what is wrong with it in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

# pydantic's words for these are about Python.
_WORDS = {
    "missing": "is required",
    "model_type": "write a mapping: `key: value`",
    "dict_type": "write a mapping: `key: value`",
    "list_type": "write a list",
    "too_short": "name at least one",
    "string_type": "write a text, in quotes if it looks like a number",
    "path_type": "write the path of a file or a folder",
}


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which each key of a mapping stands once; plain YAML takes the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        mapping = super().compose_mapping_node(anchor)
        assert mapping is not None
        seen: set[Any] = set()
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} stands twice: keep one", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return mapping


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; empty if the file is empty or not there.

    Raises:
        ValueError: the file cannot be read, is no YAML, or holds something else. Names the file,
            and the line where there is one.
    """
    try:
        text = file.read_text("utf-8") if file.exists() else ""
        content = yaml.load(text, _UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{file}{line} is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise ValueError(f"{file} holds {kind}: write a mapping, `key: value`")  # noqa: TRY004
    for key in content:
        if not isinstance(key, str):
            raise ValueError(f"{file}: {key!r} is no key: write a name")  # noqa: TRY004
    return content


def problems(error: ValidationError, model: type[BaseModel], key: str = "key") -> str:
    """What is wrong, each with the path of its key, in one line.

    Args:
        model: what was validated.
        key: what one is called, for example "setting".
    """
    return "; ".join(
        f"{_path(item['loc'])}: {_said(item, model, key)}".removeprefix(": ")
        for item in error.errors()
        # Of a default that is made of another field, which is itself wrong.
        if item["type"] != "default_factory_not_called"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``: did you mean …?`` where a known name is near; else what there is."""
    names = list(known)
    if near := get_close_matches(name, names, n=1):
        return f": did you mean {near[0]}?"
    return f"; there are: {', '.join(names)}"


def _path(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location if part != "[key]")


def _said(item: Any, model: type[BaseModel], key: str) -> str:
    if item["type"] == "extra_forbidden":
        *above, name = item["loc"]
        return f"there is no such {key}" + did_you_mean(str(name), _keys(model, above))
    message: str = _WORDS.get(item["type"], item["msg"])
    return message.removeprefix("Value error, ")


def _keys(model: type[BaseModel], path: Sequence[int | str]) -> Sequence[str]:
    """The keys that may stand at a place. Names of environments and jobs are no fields."""
    for part in path:
        if (field := model.model_fields.get(str(part))) and (inner := _model_in(field.annotation)):
            model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in a type such as ``Schedule | None`` or ``dict[Name, Job]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
