"""A real OpenID Connect provider on loopback: npm oidc-provider, as provider.mjs sets it up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.paths import ROOT

AUDIENCE = "https://mlflow.test"
SECRET = "planted-client-secret"
MACHINE = {"client_id": "machine", "client_secret": SECRET}
PERSON = {"client_id": "person"}
_SCRIPT = Path(__file__).with_name("provider.mjs")


@dataclass
class OidcProvider:
    """A running provider.

    Attributes:
        issuer: Its name and address.
        folder: Where ``fault`` may be written, see provider.mjs.
        key: PEM of the private key that signs its tokens: only tests of forged tokens have it.
        client_key: PEM of the private key of the client ``machine-key``.
    """

    issuer: str
    folder: Path
    key: str
    client_key: str
    log: Path
    process: int

    def fault(self, kind: str | dict[str, object] | None) -> None:
        """Let every request from now on meet this fault; None for none."""
        path = self.folder / "fault"
        if kind is None:
            path.unlink(missing_ok=True)
            return
        # Renamed: the provider must not read half of it.
        (self.folder / "fault.new").write_text(kind if isinstance(kind, str) else json.dumps(kind))
        os.replace(self.folder / "fault.new", path)

    def grants(self, kind: str | None = None, *, ok: bool = True) -> list[dict[str, object]]:
        """Return the grants given (or refused) so far, of one kind or all."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        told = [json.loads(line) for line in lines]
        return [
            line
            for line in told
            if "grant" in line and line["ok"] is ok and kind in (None, line["grant"])
        ]

    def pause(self) -> None:
        """Freeze the provider's process."""
        os.kill(self.process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.process, signal.SIGCONT)


def _find() -> tuple[str, str]:
    """Return node and the node_modules folder that has oidc-provider; else skip by name."""
    here = ROOT / ".programs" / "oidc" / "node_modules" / ".bin"
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), str(here)):
        modules = Path(folder).parent
        if modules.name == "node_modules" and (modules / "oidc-provider").is_dir():
            node = shutil.which("node", path=f"{folder}{os.pathsep}{os.environ.get('PATH', '')}")
            if node is not None:
                return node, str(modules)
    message = "oidc-provider is not installed (scripts/install --programs)"
    if "oidc-provider" in servers.required():
        pytest.fail(f"{message}, and MLFLOW_PACK_REQUIRE names it")
    pytest.skip(message)


@contextlib.contextmanager
def oidc_provider(folder: Path, *, token_seconds: float = 3600) -> Iterator[OidcProvider]:
    """Start a provider with its clients: ``machine``, ``machine-key`` and ``person``."""
    from joserfc.jwk import RSAKey

    node, modules = _find()
    folder.mkdir(parents=True, exist_ok=True)
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": "one"})
    client_key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": "client"})
    (folder / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=True)]}))
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    device = "urn:ietf:params:oauth:grant-type:device_code"
    without_person = {"redirect_uris": [], "response_types": []}
    clients = [
        {
            **MACHINE,
            **without_person,
            "grant_types": ["client_credentials", exchange, bearer],
        },
        {
            "client_id": "machine-key",
            **without_person,
            "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [client_key.as_dict(private=False)]},
        },
        {
            **PERSON,
            "application_type": "native",
            "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback"],
            "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token", device],
        },
    ]
    (folder / "clients.json").write_text(json.dumps(clients))
    port, log = servers.free_port(), folder / "log"
    issuer = f"http://127.0.0.1:{port}"
    environment = servers.clean_environment(
        OIDC_NODE_MODULES=modules, OIDC_TOKEN_SECONDS=str(token_seconds), NO_UPDATE_NOTIFIER="1"
    )
    with servers.running(
        [node, str(_SCRIPT), str(port), str(folder)],
        log=log,
        ready=lambda: servers.accepts_connections(port),
        environment=environment,
    ) as process:
        yield OidcProvider(
            issuer,
            folder,
            key.as_pem(private=True).decode(),
            client_key.as_pem(private=True).decode(),
            log,
            process.pid,
        )
