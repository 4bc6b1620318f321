"""Who is told what goes wrong, and how: the settings under ``notify``."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from dbt_orchestration.settings import types as kinds

_ATOM = r"[\w!#$%&'*+/=?^`{|}~-]+"
_EMAIL = re.compile(rf"{_ATOM}(\.{_ATOM})*@[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII | re.IGNORECASE)


def _read_time(value: Any) -> time:
    try:
        return value if isinstance(value, time) else time.fromisoformat(value)
    except (TypeError, ValueError):
        # Without quotes, 22:00 is a number of minutes in YAML.
        raise ValueError('write a time of day in quotes: "22:00"') from None


def _check_address(value: str) -> str:
    if not kinds.is_web_address(value):
        raise ValueError("it is no web address: write one that begins with https://")
    return value.rstrip("/")


def _check_private_address(value: str) -> str:
    address = _check_address(value)
    if kinds.is_in_the_clear(address):
        raise ValueError("a secret would be sent there in the clear: write https")
    return address


def _check_secret(value: SecretStr) -> SecretStr | None:
    secret = value.get_secret_value().strip()
    if not secret.isprintable():
        raise ValueError("it has characters that no secret has: copy it again")
    return SecretStr(secret) if secret else None


def _check_secret_address(value: SecretStr) -> SecretStr | None:
    secret = _check_secret(value)
    return SecretStr(_check_private_address(secret.get_secret_value())) if secret else None


def _check_signing_secret(value: SecretStr) -> SecretStr | None:
    secret = _check_secret(value)
    try:
        signing_key(secret) if secret else None
    except ValueError:
        raise ValueError("it is not base64: make one with `openssl rand -base64 32`") from None
    return secret


def signing_key(secret: SecretStr) -> bytes:
    """What a webhook's secret stands for.

    Raises:
        ValueError: it is not base64.
    """
    return base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)


def is_email(text: str) -> bool:
    """Whether it is one e-mail address, and no more."""
    return bool(_EMAIL.fullmatch(text))


def _check_email(value: str) -> str:
    if not is_email(value):
        raise ValueError(f"{value!r} is no e-mail address: write one such as data@example.com")
    return value


TimeOfDay = Annotated[time, BeforeValidator(_read_time)]
WebAddress = Annotated[str, AfterValidator(_check_address)]
PrivateAddress = Annotated[str, AfterValidator(_check_private_address)]
EmailAddress = Annotated[str, AfterValidator(_check_email)]
Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
SecretAddress = Annotated[SecretStr, AfterValidator(_check_secret_address)]
SigningSecret = Annotated[SecretStr, AfterValidator(_check_signing_secret)]
Text = Annotated[str, Field(min_length=1)]
Language = Literal["en", "ko"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Slack(_Model):
    """An app of Slack that may write: its bot has the scope ``chat:write``."""

    token: Secret | None = Field(None, description="The bot's token, xoxb-….")
    channel: Text | None = Field(None, description="A channel, such as #data, or its id.")
    api_url: PrivateAddress = Field(
        "https://slack.com/api", description="Slack's Web API; GovSlack has another one."
    )


class Email(_Model):
    """A mail server that takes messages."""

    host: Text | None = None
    port: int = Field(587, ge=1, le=65_535)
    security: Literal["starttls", "ssl", "none"] = "starttls"
    username: Text | None = None
    password: Secret | None = None
    ca_file: kinds.ExistingFile | None = Field(
        None, description="Certificates to trust. Default: those that this machine trusts."
    )
    sender: EmailAddress | None = None
    to: list[EmailAddress] = []
    author_domains: list[Text] = Field(
        [],
        description="The author of a commit that cannot be built is told, if his or her address is"
        " at one of these. Default: nobody is.",
    )


class Teams(_Model):
    """A workflow of Microsoft Teams: "When a Teams webhook request is received"."""

    url: SecretAddress | None = Field(None, description="Whoever has it may post.")


class Webhook(_Model):
    """Any other tool: each event as JSON, signed as https://www.standardwebhooks.com says."""

    url: SecretAddress | None = None
    secret: SigningSecret | None = Field(None, description="What the signature is made with.")


class Route(_Model):
    """Where news of some models goes in place of the default channels."""

    groups: list[Text] = Field([], description="dbt groups, or else folders: asset groups.")
    owners: list[Text] = Field([], description="Owners of models, as the asset shows them.")
    slack: Text | None = None
    email: list[EmailAddress] = []
    teams: SecretAddress | None = None


class QuietHours(_Model):
    """When people are told nothing. What is still wrong at the end, they are told then."""

    begin: TimeOfDay
    end: TimeOfDay
    timezone: kinds.TimeZone | None = Field(None, description="Default: that of full_build.")


class Notify(_Model):
    """Who is told, and how. Each part is on when it is there."""

    enabled: bool = True
    language: Language = "en"
    dagster_url: WebAddress | None = Field(
        None, description="Dagster's address, for links. Default: messages have none."
    )
    late_after_minutes: int = Field(
        120, ge=1, le=10_080, description="How long the daily build may take before it is late."
    )
    slack: Slack | None = None
    email: Email | None = None
    teams: Teams | None = None
    webhook: Webhook | None = None
    routes: dict[kinds.Name, Route] = {}
    quiet_hours: QuietHours | None = None

    def overridden_by(self, other: Notify) -> Notify:
        """These settings, but for what ``other`` says."""
        return Notify.model_validate(_merged(_stated(self), _stated(other)))

    def problem(self) -> str:
        """What is missing or does not go together, with its key; "" if nothing is."""
        return next(self._problems(), "")

    def _problems(self) -> Iterator[str]:
        routes = self.routes.values()
        if (slack := self.slack) and not (slack.channel or any(r.slack for r in routes)):
            yield "slack.channel: is required"
        if email := self.email:
            for key in ("host", "sender"):
                if getattr(email, key) is None:
                    yield f"email.{key}: is required"
            if not (email.to or email.author_domains or any(r.email for r in routes)):
                yield "email.to: name somebody"
            if email.password and email.security == "none":
                yield "email.password: would be sent in the clear: set email.security to starttls"
        for name, route in self.routes.items():
            if not (route.groups or route.owners):
                yield f"routes.{name}: name groups or owners"
            if not (route.slack or route.email or route.teams):
                yield f"routes.{name}: say where to, with slack, email or teams"
            for tool in ("slack", "email"):
                if getattr(route, tool) and not getattr(self, tool):
                    yield f"routes.{name}.{tool}: there is no notify.{tool}: say how"


def _stated(model: BaseModel) -> dict[str, Any]:
    """What was said of it, secrets as they are; not what was left out."""
    values = ((name, getattr(model, name)) for name in model.model_fields_set)
    return {k: _stated(v) if isinstance(v, BaseModel) else v for k, v in values}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = _merged(below[name], above[name])
    return merged
