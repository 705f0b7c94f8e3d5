"""Users of tokens are MLflow's users by their exact names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.identity import basic_auth_app
from mlflow_plugins_pack.identity.resolvers import Caller


class LenientStore:
    """Finds the user ``bob`` by any spelling, as MLflow's store of users does on MySQL."""

    def has_user(self, username: str) -> bool:
        return fold(username) == "bob"

    def get_user(self, username: str) -> SimpleNamespace:
        assert self.has_user(username)
        return SimpleNamespace(username="bob", is_admin=False)


@pytest.mark.parametrize("name", ["BOB", "bób", "\uff42ob"])
def test_a_look_alike_of_a_name_is_another_user(name: str) -> None:
    """The provider may let anyone be called so: they would get the permissions of the other."""
    said = basic_auth_app.refusal_of(LenientStore(), Caller(name))
    assert said is not None
    assert "spelt in another way" in said
    assert basic_auth_app.refusal_of(LenientStore(), Caller("bob")) is None
