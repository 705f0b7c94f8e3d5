"""Reads a form of one of our own pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED

from mlflow_plugins_pack.approvals.api.protection import CSRF_FIELD, is_csrf_token
from mlflow_plugins_pack.approvals.web.rendering import CSRF_COOKIE

_MAX_FIELDS = 20


async def form_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that a page of ours sent.

    Raises:
        MlflowException: If it is not such a form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind == "application/x-www-form-urlencoded"
    body = await request.body()
    if not is_form or b"%00" in body or b"\x00" in body:
        body = b"\xff"  # which cannot be decoded
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as exc:
        raise MlflowException(
            "This is not a form of the review app. Nothing was changed. Load the page again.",
            INVALID_PARAMETER_VALUE,
        ) from exc
    # Browsers send line ends as CR LF; what is stored has LF.
    fields = {name: value.replace("\r\n", "\n") for name, value in pairs}
    if not is_csrf_token(request.cookies.get(CSRF_COOKIE), fields.get(CSRF_FIELD)):
        raise MlflowException(
            "The form is too old, was sent by a page of another site, or the browser keeps no "
            "cookies. Nothing was changed. Load the page again and repeat it.",
            PERMISSION_DENIED,
        )
    return fields


Form = Annotated[Mapping[str, str], Depends(form_of)]
