"""What one run tells Lightdash, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dbt_orchestration.automation.lightdash.client import Broken, Client, LightdashError, Step
from dbt_orchestration.automation.lightdash.news import News
from dbt_orchestration.settings.lightdash import Lightdash

_NO_DBT = (
    "the project has no dbt connection, because `lightdash deploy` made it, and cannot be refreshed"
    " from here: connect it to git in its settings, or deploy it with CI"
)


class Telling:
    """Tells Lightdash the news.

    Args:
        say: told what is going on.

    Attributes:
        told: what Lightdash knows now.
        done: what was done, in words, by what it was done to.
        steps: those of the refresh, as Lightdash shows them.
        broken: what Lightdash says is broken; None if it has not looked.
        problems: why it does not know more.
        warning: why it cannot be told by anybody but a person; "" if it can.
    """

    def __init__(self, lightdash: Lightdash, news: News, say: Callable[[str], None]) -> None:
        self._lightdash = lightdash
        self._news = news
        self._say = say
        self.told = news.told
        self.done: dict[str, str] = {}
        self.steps: list[Step] = []
        self.broken: Sequence[Broken] | None = None
        self.problems: list[str] = []
        self.warning = ""

    def tell(self) -> None:
        """Tell what can be told."""
        news = self._news
        with self._trying():
            client = Client(self._lightdash, self._say)
            self.warning = "" if client.has_dbt_connection() else _NO_DBT
        if self.problems:
            return
        if news.refresh:
            with self._trying():
                if not self.warning:
                    client.refresh(self.steps)
                self.done["fields"] = "not refreshed" if self.warning else "refreshed"
                self.told = replace(self.told, fields=news.now.fields)
        if news.empty:
            with self._trying():
                why_not = client.empty_results_cache()
                self.done["results cache"] = f"not emptied: {why_not}" if why_not else "emptied"
                self.told = replace(self.told, place=news.now.place)
        if news.validate and self.told.fields == news.now.fields:
            with self._trying():
                self.broken = client.validate()
                self.done["charts"] = "validated"
                self.told = replace(self.told, valid=news.now.valid)

    @contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except LightdashError as error:
            self._note(str(error))
        except (KeyError, TypeError, AttributeError) as error:
            self._note(f"{self._lightdash.url} answers what no Lightdash does: {error!r}")

    def _note(self, problem: str) -> None:
        self._say(f"Lightdash: {problem}.")
        self.problems.append(problem)
