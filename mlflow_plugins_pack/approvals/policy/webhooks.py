"""The policy's list ``events.webhooks``: which programs get which events; pure."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from mlflow_plugins_pack.strict_model import StrictModel
from mlflow_plugins_pack.web_urls import parse_url

Event = Literal[
    "request.created",
    "request.approved",
    "request.rejected",
    "request.cancelled",
    "request.expiring",
    "request.expired",
    "request.stale",
    "request.superseded",
    "request.applied",
    "break_glass",
    "drift",
]


class Secret(StrictModel):
    """The place of the signing key; never the policy file, whose text is stored with requests."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env (a variable's name) or file (a path)")
        return self


class Webhook(StrictModel):
    """A receiver of events.

    Attributes:
        url: the receiver's address: https, or http on this machine.
        secret: where the signing key is.
        events: the events to send; by default all.
        allow_private: whether plain http and addresses that are not public are allowed.
    """

    url: Annotated[str, Field(max_length=1000)]
    secret: Secret
    events: list[Event] = Field(default_factory=lambda: list(get_args(Event)))
    allow_private: bool = False

    @model_validator(mode="after")
    def _is_safe(self) -> Webhook:
        url = parse_url(self.url)
        if url is None:
            raise ValueError(
                "it is not of the form https://host[:port][/path][?query], without a user name: a "
                "password in it would be kept with the policy's text"
            )
        if not (url.is_secure or self.allow_private):
            raise ValueError(
                "plain http lets everyone on the way read and drop events: use https, or set "
                "allow_private: true"
            )
        return self

    @property
    def key(self) -> str:
        """The receiver in the outbox."""
        return self.url

    @property
    def is_local(self) -> bool:
        """True if its host name means this machine."""
        url = parse_url(self.url)
        return url is not None and url.is_local
