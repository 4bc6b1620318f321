"""What a tick of a sensor leaves for the next one."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any
from zlib import compress, decompress
from zlib import error as zlib_error


def write_cursor(said: str, known: Mapping[str, Any]) -> str:
    """A word for people, and the rest for ``read_cursor``.

    Dagster shows the cursor of each tick. Whole sentences there would hide what is on the page.
    """
    return f"{said} {b64encode(compress(json.dumps(known).encode())).decode()}"


def read_cursor(cursor: str | None) -> Mapping[str, Any]:
    """What a tick has left for the next one; nothing if it cannot be read."""
    _, _, content = (cursor or "").partition(" ")
    try:
        known = json.loads(decompress(b64decode(content)))
    except (ValueError, zlib_error):
        return {}
    return known if isinstance(known, dict) else {}
