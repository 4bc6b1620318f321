"""How long nothing is sent to a tool that could not be told."""

from __future__ import annotations

LONGEST_PAUSE = 3_600.0
_FIRST_PAUSE = 30.0
# Twice as long each time: by then it is the longest. A tool may be away for months, and no number
# that a float can hold is two to the power of all the tries.
_DOUBLINGS = 10


def pause_after(tries: int) -> float:
    """Seconds to wait when so many tries before the last one have failed, too."""
    return min(_FIRST_PAUSE * 2.0 ** min(tries, _DOUBLINGS), LONGEST_PAUSE)
