"""What the review app says of an MLflow server that does not answer."""

from __future__ import annotations

import socket
import threading

import pytest
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer


@pytest.mark.parametrize(
    ("method", "told"), [("GET", "Nothing was changed"), ("POST", "is not known")]
)
def test_a_server_that_ends_before_it_answers(method: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        server = MlflowServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(MlflowException, match=told):
            server.ask(method, "/x", {})
        thread.join()


def test_a_server_that_is_not_there_has_changed_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MlflowException, match="Nothing was changed"):
        MlflowServer(f"http://127.0.0.1:{port}").ask("POST", "/x", {})
