"""Lets a test call a store as a signed-in user, inside a Flask request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import flask

_app = flask.Flask("tests")


@contextlib.contextmanager
def signed_in(user: str | None) -> Iterator[None]:
    """Be in a request whose authenticated user is given; None: an open server's request."""
    with _app.test_request_context():
        if user is not None:
            flask.g.mlflow_authenticated_user = user
        yield
