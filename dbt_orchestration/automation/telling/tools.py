"""Slack, e-mail, Microsoft Teams and webhooks: each takes a message, once, within seconds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate
from http.client import HTTPException
from typing import Any, Protocol

from pydantic import SecretStr

from dbt_orchestration.automation.telling.message import Event, Message
from dbt_orchestration.settings import notify as settings
from dbt_orchestration.settings.extras import missing
from dbt_orchestration.settings.notify import Notify, signing_key

_SECONDS = 10.0
_MARKS = {
    Event.OPENED: (":red_circle:", "attention"),
    Event.UPDATED: (":repeat:", "warning"),
    Event.CLOSED: (":white_check_mark:", "good"),
}
# What Slack says of a message that a person has deleted, or that is too old.
_GONE = (
    *("thread_not_found", "message_not_found", "cannot_reply_to_message"),
    *("cant_update_message", "edit_window_closed"),
)
_HINTS = {
    "not_in_channel": ": invite the app to the channel",
    "channel_not_found": ": check notify.slack.channel, and invite the app to the channel",
    "invalid_auth": ": check notify.slack.token",
    "token_revoked": ": check notify.slack.token",
    "missing_scope": ": give the app the scope chat:write",
}


class TellError(RuntimeError):
    """Nobody could be told. The message says why, and what to do; it holds no secret."""


@dataclass(frozen=True)
class Sent:
    """A message that has been sent, for those that follow it.

    Attributes:
        thread: what the tool calls it; "" if nothing can follow.
        text: what it said, as far as that is needed again.
    """

    thread: str = ""
    text: str = ""


class Tool(Protocol):
    """What takes messages.

    Attributes:
        follows: whether a message can follow another one.
    """

    follows: bool

    def send(self, to: str, message: Message, before: Sent | None) -> Sent:
        """Send a message.

        Args:
            to: an address of this tool's, which is no secret.
            before: the message that it follows, if any.

        Raises:
            TellError: it was not sent, as far as is known.
        """
        ...


class Slack:
    """Slack's Web API."""

    follows = True

    def __init__(self, slack: settings.Slack) -> None:
        try:
            from slack_sdk import WebClient
        except ImportError:
            raise TellError(missing("slack_sdk")) from None
        token = _secret(slack.token, "slack.token")
        url = f"{slack.api_url}/"
        self._client = WebClient(token, base_url=url, timeout=int(_SECONDS), retry_handlers=[])

    def send(self, to: str, message: Message, before: Sent | None) -> Sent:
        mark, _ = _MARKS[message.event]
        title = f"{mark} *{_escaped(message.title)}*"
        lines = [title, *map(_escaped, message.lines)]
        if message.detail:
            lines.append(f"```{_escaped(message.detail).replace('```', '` ` `')}```")
        if message.links:
            lines.append(" · ".join(f"<{address}|{label}>" for label, address in message.links))
        text = "\n".join(lines)
        known = {"event_type": "dbt_orchestration", "event_payload": {"id": message.id}}
        options: dict[str, Any] = {"metadata": known, "unfurl_links": False, "text": text}
        if before and before.thread:
            channel, _, ts = before.thread.partition(" ")
            if message.ends:  # first, since it may be done twice
                closed = f"{title}\n{before.text}"
                self._ask("chat_update", *_GONE, channel=channel, ts=ts, text=closed)
            if self._ask("chat_postMessage", *_GONE, channel=channel, thread_ts=ts, **options):
                return before
        answer = self._ask("chat_postMessage", channel=to, **options)
        return Sent(f"{answer['channel']} {answer['ts']}", text)

    def _ask(self, method: str, *but_for: str, **arguments: Any) -> Any:
        """What Slack answers; None if it is one of these errors."""
        from slack_sdk.errors import SlackApiError

        try:
            return getattr(self._client, method)(**arguments).data
        except SlackApiError as error:
            said = str(error.response.get("error") or error.response.status_code)
            if said in but_for:
                return None
            where = arguments["channel"]
            raise TellError(f"Slack says {said[:200]} ({where}){_HINTS.get(said, '')}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise TellError(f"Slack does not answer: {type(error).__name__}") from None


class Email:
    """A mail server. Messages of one incident have one subject, and refer to the first."""

    follows = True

    def __init__(self, email: settings.Email) -> None:
        self._email = email
        self._password = _secret(email.password, "email.password") if email.username else ""

    def send(self, to: str, message: Message, before: Sent | None) -> Sent:
        email = self._email
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Date"] = email.sender, to, formatdate()
        # The same for the same message: sent twice, it is shown once.
        mail["Message-ID"] = f"<{message.id}@dbt-orchestration>"
        follows = before if before and before.thread else None
        mail["Subject"] = f"Re: {follows.text}" if follows else message.title
        if follows:
            mail["In-Reply-To"] = mail["References"] = follows.thread
        mail.set_content(f"{message.title}\n\n{message.text}\n")
        try:
            self._deliver(mail)
        except (OSError, smtplib.SMTPException) as error:
            code = getattr(error, "smtp_code", "")
            said = " ".join(filter(None, (type(error).__name__, str(code))))
            raise TellError(f"{email.host}:{email.port} does not take mail: {said}") from None
        return follows or Sent(str(mail["Message-ID"]), message.title)

    def _deliver(self, mail: EmailMessage) -> None:
        email, host = self._email, str(self._email.host)
        trusted = ssl.create_default_context(cafile=email.ca_file)
        server: smtplib.SMTP
        if email.security == "ssl":
            server = smtplib.SMTP_SSL(host, email.port, timeout=_SECONDS, context=trusted)
        else:
            server = smtplib.SMTP(host, email.port, timeout=_SECONDS)
        with server:
            if email.security == "starttls":
                server.starttls(context=trusted)
            if email.username:
                server.login(email.username, self._password)
            server.send_message(mail)


class Teams:
    """Workflows of Microsoft Teams, which post an Adaptive Card; nothing can follow it.

    Args:
        urls: one for each address.
    """

    follows = False

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls

    def send(self, to: str, message: Message, before: Sent | None) -> Sent:  # noqa: ARG002
        _, color = _MARKS[message.event]
        title = {"type": "TextRun", "text": message.title, "weight": "bolder", "color": color}
        detail = {"type": "TextRun", "text": message.detail, "fontType": "monospace"}
        # Its other kind of text takes the underscores of names for italics.
        runs = [title, *({"type": "TextRun", "text": line} for line in message.lines)]
        runs += [detail] if message.detail else []
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [{"type": "RichTextBlock", "inlines": [run]} for run in runs],
            "actions": [
                {"type": "Action.OpenUrl", "title": label, "url": address}
                for label, address in message.links
            ],
        }
        kind = "application/vnd.microsoft.card.adaptive"
        content = {"type": "message", "attachments": [{"contentType": kind, "content": card}]}
        _post("Teams", self._urls[to], json.dumps(content).encode(), {})
        return Sent()


class Webhook:
    """Any other tool: docs/notifications.schema.json says what it is sent."""

    follows = True

    def __init__(self, webhook: settings.Webhook) -> None:
        self._url = _secret(webhook.url, "webhook.url")
        _secret(webhook.secret, "webhook.secret")
        self._key = signing_key(webhook.secret or SecretStr(""))

    def send(self, to: str, message: Message, before: Sent | None) -> Sent:  # noqa: ARG002
        [incident] = message.incidents
        content = {
            "version": 1,
            "id": message.id,
            "event": message.event,
            "environment": message.environment,
            "kind": incident.kind,
            "incident": f"{message.environment}/{incident.key}",
            "node": incident.node or None,
            "since": datetime.fromtimestamp(incident.since, UTC).isoformat(),
            "title": message.title,
            "text": message.text,
            "facts": incident.facts,
            "groups": incident.groups,
            "owners": incident.owners,
        }
        body, now = json.dumps(content).encode(), str(int(time.time()))
        signed = b".".join((message.id.encode(), now.encode(), body))
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        headers = {"webhook-id": message.id, "webhook-timestamp": now}
        _post("the webhook", self._url, body, {**headers, "webhook-signature": f"v1,{signature}"})
        return Sent(incident.key)


def tools_of(notify: Notify) -> tuple[Mapping[str, Tool], Mapping[str, str]]:
    """The tools that are set, by name, and why others that are set cannot be used."""
    tools: dict[str, Tool] = {}
    problems: dict[str, str] = {}
    makers: Mapping[str, Callable[[], Tool | None]] = {
        "slack": lambda: Slack(notify.slack) if notify.slack else None,
        "email": lambda: Email(notify.email) if notify.email else None,
        "teams": lambda: Teams(_teams_urls(notify)),
        "webhook": lambda: Webhook(notify.webhook) if notify.webhook else None,
    }
    for name, make in makers.items():
        try:
            if tool := make():
                tools[name] = tool
        except TellError as error:
            problems[name] = str(error)
    return tools, problems


def _teams_urls(notify: Notify) -> Mapping[str, str]:
    """By the name of the route; "" is the default one."""
    urls = {name: route.teams for name, route in notify.routes.items()}
    if notify.teams:
        urls[""] = SecretStr(_secret(notify.teams.url, "teams.url"))
    return {name: url.get_secret_value() for name, url in urls.items() if url}


def _secret(value: SecretStr | None, key: str) -> str:
    if value is None:
        variable = f"DBT_ORCHESTRATION_NOTIFY__{key.upper().replace('.', '__')}"
        raise TellError(f"notify.{key} is not set: {variable} sets it (docs/notifications.md)")
    return value.get_secret_value()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Nothing is sent to an address that nobody has set."""


def _post(what: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Post JSON to an address that is a secret; the libraries that log would write it down."""
    kind = {"Content-Type": "application/json", "User-Agent": "dbt-orchestration"}
    request = urllib.request.Request(url, body, {**kind, **headers}, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise TellError(f"{what} answers {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise TellError(f"{what} does not answer: {type(cause).__name__}") from None
