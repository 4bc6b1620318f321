"""What whoever asks for a run hands over to it, besides what a person may set in the Launchpad."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Dagster's UI shows no tag that begins like this. A run that retries another one gets its tags.
_ORDER = ".dagster/dbt_order"
# PostgreSQL keeps no value in an index that is much longer.
_MOST_CHARACTERS = 1_000
# A run that retries another one may have written less over the tags of that.
_END = "."


@dataclass(frozen=True)
class Order:
    """What a run is to build, and why.

    Attributes:
        rebuild: nodes to rebuild from nothing, by unique id.
        partitions: what to build of partitioned nodes, by unique id: keys, or ranges
            ``first..last``. Of others the newest are built.
        reasons: why each node is built, by unique id.
        left_alone: how many nodes are not due.
        seconds_saved: what those would take.
        adopt: nodes whose relations are there already, by unique id, each with the fingerprint that
            it was found to fit. A run that is to adopt records them as built, and builds nothing.
        compare_rows: whether it counts their rows before.
        revision: the digest of the commit to build, if that is another one than the newest.
        clone: the environment whose tables are copied, where they are what a build would make.
    """

    rebuild: Sequence[str] = ()
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    left_alone: int = 0
    seconds_saved: float = 0.0
    adopt: Mapping[str, str] = field(default_factory=dict)
    compare_rows: bool = False
    revision: str = ""
    clone: str = ""

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Order:
        """What the tags of a run say; that of a run that a person started is empty."""
        return cls(**(unpacked(_ORDER, tags) or {}))

    def as_tags(self) -> dict[str, str]:
        """The tags that say it; none if it is empty."""
        return packed(_ORDER, asdict(self)) if self != Order() else {}


def packed(tag: str, value: Any) -> dict[str, str]:
    """A value for JSON as tags, however large it is."""
    text = base64.b64encode(zlib.compress(json.dumps(value).encode())).decode() + _END
    starts = range(0, len(text), _MOST_CHARACTERS)
    return {f"{tag}.{n}": text[at : at + _MOST_CHARACTERS] for n, at in enumerate(starts)}


def unpacked(tag: str, tags: Mapping[str, str]) -> Any:
    """What ``packed`` was given; None if it is not among ``tags``."""
    text = ""
    while not text.endswith(_END):
        part = tags.get(f"{tag}.{len(text) // _MOST_CHARACTERS}")
        if part is None:
            return None
        text += part
    return json.loads(zlib.decompress(base64.b64decode(text.removesuffix(_END))))
