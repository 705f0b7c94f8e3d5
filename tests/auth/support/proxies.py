"""Real proxies that let in who has a good token: nginx with auth_request, Apache with openidc."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from tests.support import servers
from tests.support.oidc import AUDIENCE, OidcProvider

_NGINX = """
pid {folder}/pid; error_log {folder}/error.log; daemon off; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log {folder}/access.log; client_max_body_size 0; default_type text/plain;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location = /_verify {{
      internal; proxy_pass {verifier}; proxy_pass_request_body off;
      proxy_set_header Content-Length "";
    }}
    location / {{
      auth_request /_verify; auth_request_set $who $upstream_http_x_user;
      proxy_set_header XRemoteUser $who; proxy_set_header XProxySecret "{secret}"; {directives}
      proxy_pass {upstream}; proxy_request_buffering off; proxy_http_version 1.1;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""

_APACHE = """
ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/apache.pid
ErrorLog {folder}/apache-error.log
Listen 127.0.0.1:{port}
{modules}
{user}
DocumentRoot {folder}
OIDCOAuthVerifyCertFiles one#{folder}/issuer.pem
OIDCOAuthRemoteUserClaim sub
OIDCCryptoPassphrase only-for-tests
ProxyPass / {upstream}/
<Location />
  AuthType oauth20
  Require claim aud:{audience}
  RequestHeader unset Authorization
  RequestHeader set XRemoteUser expr=%{{REMOTE_USER}}
  RequestHeader set XProxySecret {secret}
</Location>
"""
PROXY_SECRET = "planted-proxy-secret"


@dataclass
class Verifier:
    """Says 200 or 401 to a bearer token, strictly by its expiry: no leeway.

    Attributes:
        refused: When (on the epoch's clock) a request was refused.
        revoked: Tokens that count no more.
    """

    port: int
    refused: list[float] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)

    def revoke_all(self) -> None:
        """Let no token that was seen so far count any more."""
        self.revoked |= self.accepted


@contextlib.contextmanager
def verifying(provider: OidcProvider) -> Iterator[Verifier]:
    """Run a verifier of the provider's tokens, with its keys and joserfc."""
    from joserfc import errors, jwt
    from joserfc.jwk import KeySet

    keys = KeySet.import_key_set(requests.get(f"{provider.issuer}/jwks", timeout=30).json())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            who = self._who(token)
            if who is None:
                verifier.refused.append(time.time())
            self.send_response(401 if who is None else 200)
            if who is not None:
                verifier.accepted.add(token)
                self.send_header("X-User", who)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _who(self, token: str) -> str | None:
            if token in verifier.revoked:
                return None
            try:
                claims = jwt.decode(token, keys, algorithms=["RS256"]).claims
                registry = jwt.JWTClaimsRegistry(
                    iss={"essential": True, "value": provider.issuer},
                    aud={"essential": True, "value": AUDIENCE},
                    exp={"essential": True},
                )
                registry.validate(claims)
            except (errors.JoseError, ValueError):
                return None
            return str(claims["sub"])

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    verifier = Verifier(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield verifier
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def nginx_auth_request(
    folder: Path, upstream: str, verifier: Verifier, directives: str = ""
) -> Iterator[str]:
    """Run nginx in front of an upstream; give its address.

    Args:
        folder: For its files.
        upstream: The server behind it.
        verifier: Tells good tokens from bad ones.
        directives: Further directives for requests that are passed on.
    """
    program = servers.find_program("nginx", "nginx")
    folder.mkdir(parents=True, exist_ok=True)
    port = servers.free_port()
    (folder / "nginx.conf").write_text(
        _NGINX.format(
            folder=folder,
            port=port,
            upstream=upstream,
            verifier=f"http://127.0.0.1:{verifier.port}",
            secret=PROXY_SECRET,
            directives=directives,
        )
    )
    with servers.running(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
        log=folder / "log",
        ready=lambda: servers.accepts_connections(port),
    ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def apache_openidc(folder: Path, upstream: str, provider: OidcProvider) -> Iterator[str]:
    """Run Apache with mod_auth_openidc as a resource server in front of an upstream."""
    from joserfc.jwk import RSAKey

    program = servers.find_program("apache", "apache2", "httpd")
    library = Path("/usr/lib/apache2/modules")
    folder.mkdir(parents=True, exist_ok=True)
    port = servers.free_port()
    issuer = RSAKey.import_key(provider.key)
    (folder / "issuer.pem").write_bytes(issuer.as_pem(private=False))
    names = ["mpm_event", "authn_core", "authz_core", "authz_user", "headers", "proxy"]
    names += ["proxy_http", "auth_openidc"]
    modules = [f"LoadModule {name}_module {library}/mod_{name}.so" for name in names]
    (folder / "apache.conf").write_text(
        _APACHE.format(
            folder=folder,
            port=port,
            modules="\n".join(modules),
            user="User www-data\nGroup www-data",
            upstream=upstream,
            audience=AUDIENCE,
            secret=PROXY_SECRET,
        )
    )
    folder.chmod(0o755)
    with servers.running(
        [program, "-X", "-f", str(folder / "apache.conf"), "-D", "FOREGROUND"],
        log=folder / "log",
        ready=lambda: servers.accepts_connections(port),
    ):
        yield f"http://127.0.0.1:{port}"


def identity_of_proxy() -> str:
    """Return the policy's identity section that trusts these proxies, as JSON."""
    return json.dumps(
        {
            "sources": ["trusted_header"],
            "trusted_header": {
                "peers": ["127.0.0.1/32"],
                "secret_header": "XProxySecret",
                "secret_env": "PROXY_SECRET",
                "user_header": "XRemoteUser",
            },
        }
    )
