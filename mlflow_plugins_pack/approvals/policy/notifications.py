"""The policy's section ``events``: which programs and which people are told of what; pure."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from mlflow_plugins_pack.approvals.policy.webhooks import Event, Secret, Webhook
from mlflow_plugins_pack.strict_model import Seconds, StrictModel
from mlflow_plugins_pack.web_urls import is_loopback

# An address that needs no quoting anywhere, and so cannot smuggle a header or another recipient.
EmailAddress = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,250}$", max_length=254)
]


class Notification(StrictModel):
    """People who are told of events.

    Attributes:
        name: a name of your choice, by which `mlflow-pack approvals events` lists deliveries.
        kind: the way: an incoming webhook of Slack, a workflow of Teams, or e-mail.
        url: where the webhook's address is; posting there takes nothing else, so it is a secret.
        to: the recipients of the e-mail.
        events: the events to send; by default all.
        allow_private: whether the webhook may have plain http or an address that is not public.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]
    kind: Literal["slack", "teams", "email"]
    url: Secret | None = None
    to: list[EmailAddress] = Field(default_factory=list, max_length=100)
    events: list[Event] = Field(default_factory=lambda: list(get_args(Event)))
    allow_private: bool = False

    @model_validator(mode="after")
    def _has_a_place(self) -> Notification:
        is_mail = self.kind == "email"
        if is_mail != bool(self.to) or is_mail != (self.url is None):
            raise ValueError("e-mail has 'to', and slack and teams have 'url', not the other")
        return self

    @property
    def key(self) -> str:
        """The receiver in the outbox."""
        return f"notification:{self.name}"


class MailServer(StrictModel):
    """The SMTP server that e-mail is handed to.

    Attributes:
        host: its name.
        port: its port.
        security: how the connection is encrypted.
        username: the user to sign in as.
        password: where their password is.
        sender: the address that mail comes from.
        allow_private: whether its address may be one that is not public, and unencrypted.
    """

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: Secret | None = None
    sender: EmailAddress
    allow_private: bool = False

    @model_validator(mode="after")
    def _is_safe(self) -> MailServer:
        if (self.username is None) != (self.password is None):
            raise ValueError("give both username and password, or neither")
        if self.security == "none" and not (self.allow_private or self.is_local):
            raise ValueError(
                "without encryption everyone on the way reads and changes mail: use starttls or "
                "tls, or set allow_private: true"
            )
        return self

    @property
    def is_local(self) -> bool:
        """True if its name means this machine."""
        return is_loopback(self.host.lower())


class Events(StrictModel):
    """The policy file's section ``events``.

    Attributes:
        webhooks: the programs that get events.
        notifications: the people who get messages.
        mail_server: what e-mail is handed to.
        remind_before: how long before a request or an approval expires there is a reminder, the
            event ``request.expiring``; without it there is none.
    """

    webhooks: list[Webhook] = Field(default_factory=list)
    notifications: list[Notification] = Field(default_factory=list)
    mail_server: MailServer | None = None
    remind_before: Seconds | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Events:
        urls = [webhook.url for webhook in self.webhooks]
        if len(set(urls)) != len(urls):
            raise ValueError("two webhooks have the same URL; name it once with all its events")
        names = [notification.name for notification in self.notifications]
        if len(set(names)) != len(names):
            raise ValueError("two notifications have the same name")
        if self.mail_server is None and any(n.kind == "email" for n in self.notifications):
            raise ValueError("a notification is by e-mail, and there is no mail_server")
        return self

    @property
    def receivers(self) -> list[Webhook | Notification]:
        """All that are told of events."""
        return [*self.webhooks, *self.notifications]

    def secrets(self) -> list[tuple[str, Secret]]:
        """Return what each secret is for, and where it is."""
        found = [(webhook.url, webhook.secret) for webhook in self.webhooks]
        found += [(f"notification {n.name}", n.url) for n in self.notifications if n.url]
        if self.mail_server is not None and self.mail_server.password is not None:
            found.append((f"mail server {self.mail_server.host}", self.mail_server.password))
        return found
