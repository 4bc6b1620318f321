"""Why something failed, in one line."""

from __future__ import annotations

import re

from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.dbt.snowflake_errors import in_one_line
from dbt_orchestration.markdown import shortened

_BLANK = re.compile(r"\n\s*\n")
_MOST_LINE = 300  # characters


def cause_of(message: str, title: str) -> str:
    """What dbt says of the cause, and of whom if not of ``title``.

    Of what Snowflake refuses whatever the SQL is, also what to do.
    """
    if refused := in_one_line(message, adapters.snowflake_login()):
        return refused
    heading, _, rest = message.strip().partition("\n")
    if " Error in " not in heading or not rest:
        heading, rest = "", message
    elif f" Error in {title} " in heading:
        heading = ""
    lines = _BLANK.split(rest.strip(), maxsplit=1)[0].splitlines()
    said = " ".join(line.strip() for line in lines)
    return shortened(f"{heading}: {said}" if heading else said, _MOST_LINE)
