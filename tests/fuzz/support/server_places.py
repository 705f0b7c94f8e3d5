"""The places where bytes enter a server; every input goes through REST of a running one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import requests

from mlflow_plugins_pack.approvals.domain.attestation import Statement, seal, unseal
from tests.fuzz.support.odd_inputs import Odd
from tests.fuzz.support.running import FuzzError, Place, refused
from tests.support import servers

SECRET = "planted-proxy-secret"
AUDIENCE = "mlflow"
POLICY = """
version: 1
identity: {identity}
groups: {{leads: [bob], ci: ["claim:ci", eve]}}
policies:
  - name: gov
    match: {{models: ["gov-*", "*-[x]"], prompts: ["say-*"], exclude: ["*-not"]}}
    targets: {{aliases: [prod], stages: [Production]}}
    approvals: [{{group: leads}}]
    checks:
      - {{signature: required}}
      - {{lineage: required, inputs_under: ["s3://data/**"], inputs_never: ["**/p?i/**"]}}
      - {{tag: tests, equals: passed, writers: ["group:ci"], max_age: 7d}}
      - {{expr: "metrics.auc >= 0.5 && params.a == 'b' && tags.x != 'y'"}}
"""
LINEAGE = [{"u": "s3://data/a.csv", "r": "data", "files": 2}]
ATTESTED = seal(
    Statement(f"sha256:{'ab' * 32}", "models:/a/1", "https://a.example.com", "a", (), 1),
    bytes(32),
    lambda _: bytes(64),
)
DOCUMENT = {"inputs": LINEAGE, "members": {"s3://data/a.csv": ["x", "y"]}, "dropped": 0}
MLMODEL = "flavors:\n  python_function: {loader_module: x}\nsignature:\n  inputs: '[]'\n"


class Issuer:
    """The keys of an issuer whose tokens the server knows, and the key that signs them."""

    def __init__(self) -> None:
        from joserfc.jwk import KeySet, RSAKey

        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.document = json.dumps(KeySet([self.key]).as_dict(private=False)).encode()
        self.url = ""

    def token(self, **claims: Any) -> str:
        from joserfc import jwt

        header = {"alg": "RS256", "kid": "one"}
        return jwt.encode(header, {"iss": self.url, "aud": AUDIENCE, **claims}, self.key)

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        document = self.document

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()


class Target:
    """A server without an app whose callers a proxy names, and one version of each kind."""

    def __init__(self, server: servers.MlflowServer, issuer: Issuer) -> None:
        self.server, self.issuer = server, issuer
        self.database = server.log.parent / "mlflow.db"
        self.session = requests.Session()
        self.session.trust_env = False
        info = self.call("runs/create", experiment_id="0")["run"]["info"]
        self.run, self.root = info["run_id"], info["artifact_uri"]
        self.files = self.root.removeprefix("mlflow-artifacts:/")
        self.put("model/MLmodel", MLMODEL.encode())
        for name in ("gov-a", "free-a"):
            self.call("registered-models/create", name=name)
            source = f"{self.root}/model"
            self.call("model-versions/create", name=name, source=source, run_id=self.run)

    def processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.server.process.pid)
        return [main, *main.children(recursive=True)]

    def ask(
        self,
        path: str,
        body: dict[str, Any],
        *,
        verb: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send a request; its answer must not be a failure of the server."""
        signed = {"XRemoteUser": "alice", "XProxySecret": SECRET}
        answer = self.session.request(
            verb,
            f"{self.server.url}/api/2.0/mlflow/{path}",
            data=json.dumps(body),
            headers={
                "Content-Type": "application/json",
                **(signed if headers is None else headers),
            },
            timeout=60,
        )
        if answer.status_code >= 500 and not self._is_stocks_own(path, body, verb):
            raise FuzzError(f"{answer.status_code} {answer.text[:500]}")
        return answer

    def _is_stocks_own(self, path: str, body: dict[str, Any], verb: str) -> bool:
        """Return whether stock MLflow fails as well, where no policy governs the model."""
        text = json.dumps(body).replace("gov-", "free-").replace("say-", "free-")
        answer = self.session.request(
            verb,
            f"{self.server.url}/api/2.0/mlflow/{path}",
            data=text.replace("approvals.", "other."),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        return answer.status_code >= 500

    def call(self, path: str, **body: Any) -> Any:
        answer = self.ask(path, body)
        assert answer.ok, answer.text
        return answer.json()

    def put(self, path: str, data: bytes) -> None:
        """Store an artifact of the run."""
        url = f"{self.server.url}/api/2.0/mlflow-artifacts/artifacts/{self.files}/{path}"
        answer = self.session.put(url, data=data, timeout=60)
        assert answer.ok, answer.text

    def promote(self, name: str = "gov-a", version: str = "1") -> None:
        self.ask("registered-models/alias", {"name": name, "alias": "prod", "version": version})

    # --- the places -----------------------------------------------------------------------------

    def names(self, odd: Odd) -> None:
        name = odd.in_a_word("gov-a", "say-a", "gov-")
        if odd.chance.random() < 0.5:
            name = odd.text("gov-a")
        about = {"name": name, "version": odd.pick(("1", odd.text("1")))}
        alias, key = odd.text("prod"), odd.text("tests", "approvals.approve", "mlflow_approvals.x")
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "registered-models/create", {"name": name, "tags": [{"key": key}]}),
            ("POST", "registered-models/alias", {**about, "alias": alias}),
            ("DELETE", "registered-models/alias", {**about, "alias": alias}),
            ("POST", "model-versions/set-tag", {**about, "key": key, "value": "x"}),
            ("POST", "model-versions/set-tag", {"name": "gov-a", "version": "1", "key": key}),
            ("POST", "registered-models/set-tag", {"name": name, "key": key, "value": "x"}),
            ("DELETE", "model-versions/delete-tag", {**about, "key": key}),
            ("POST", "registered-models/rename", {"name": "gov-none", "new_name": name}),
            ("POST", "registered-models/alias", {"name": "gov-a", "version": "1", "alias": alias}),
            ("POST", "model-versions/transition-stage", {**about, "stage": alias}),
        ]
        for verb, path, body in odd.chance.sample(calls, 4):
            self.ask(path, body, verb=verb)

    def commands(self, odd: Odd) -> None:
        verb = odd.pick(("request", "approve", "reject", "comment", "comment.edit", "break_glass"))
        value = odd.pick((f"prod: {odd.text()}", odd.text("prod: fine", "stage:Production: x")))
        body = {"name": "gov-a", "version": "1", "key": f"approvals.{verb}", "value": value}
        self.ask("model-versions/set-tag", body)

    def descriptions(self, odd: Odd) -> None:
        line = '[Approval of `prod` is requested](http://x/y "mlflow-approvals")'
        text = odd.pick((odd.text(line, f"a\n\n{line}"), odd.pick(("[", "](", line)) * 10_000))
        about = {"name": "gov-a", "version": "1"}
        self.ask("model-versions/update", {**about, "description": text}, verb="PATCH")
        self.ask("model-versions/get?name=gov-a&version=1", {}, verb="GET")

    def shown(self, odd: Odd) -> None:
        """Write tags of approvals past the server, as a stock client of the database would."""
        status = {"state": "APPLIED", "action": "promote", "request_id": "f" * 32, "votes": 1}
        status |= {"approvers": ["bob"], "basis": {"kind": "votes"}, "progress": {"bytes_done": 1}}
        suffix = odd.pick(("", ".request", ".approval", ".x"))
        value = odd.json({"request_id": "f", "digest": "x"} if suffix == ".approval" else status)
        row = ("gov-a", 1, "mlflow_approvals.prod" + suffix, value[:8000], "default")
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as database:
            columns = "name, version, key, value, workspace"
            database.execute(
                f"INSERT OR REPLACE INTO model_version_tags ({columns}) VALUES (?, ?, ?, ?, ?)", row
            )
            database.commit()
            answer = self.ask("model-versions/get?name=gov-a&version=1", {}, verb="GET")
            if "APPLIED" in answer.text:
                raise FuzzError(f"an approval that never was is shown: {answer.text}")
            self.ask("model-versions/search", {}, verb="GET")
            database.execute("DELETE FROM model_version_tags WHERE key = ?", row[2:3])
            database.commit()

    def sources(self, odd: Odd) -> None:
        source = odd.text(
            f"{self.root}/model", f"runs:/{self.run}/m", "models:/gov-a/1", "s3://b/x"
        )
        body = {"name": "gov-a", "source": source, "run_id": odd.pick((self.run, odd.text()))}
        made = self.ask("model-versions/create", body)
        if made.ok:
            self.promote(version=made.json()["model_version"]["version"])

    def model_files(self, odd: Odd) -> None:
        self.put(
            "model/MLmodel", odd.pick((odd.yaml(MLMODEL).encode("utf-8", "replace"), odd.data()))
        )
        self.promote()
        self.put("model/MLmodel", MLMODEL.encode())

    def lineage(self, odd: Odd) -> None:
        uris = [{**LINEAGE[0], "u": odd.text("s3://data/a", "s3://data/../b", "file:///p%20i/x")}]
        for key, value in (
            ("inputs", odd.pick((odd.json(LINEAGE), json.dumps(uris)))),
            ("code", odd.json({"commit": "a", "dirty": False})),
            ("truncated", odd.pick(('{"inputs": 1}', odd.json({"inputs": 1})))),
        ):
            body = {"run_id": self.run, "key": f"lineage.{key}", "value": value[:8000]}
            self.ask("runs/set-tag", body)
        self.put("lineage/lineage.json", odd.json(DOCUMENT).encode("utf-8", "replace"))
        self.promote()

    def contents(self, odd: Odd) -> None:
        """Read files of any name and content."""
        from urllib.parse import quote

        name = odd.text("weights.bin")[:200].replace("\0", "").encode("utf-8", "replace")
        with contextlib.suppress(AssertionError):  # MLflow refuses many names
            self.put(f"model/{quote(name)}", odd.data())
        self.promote()

    def tokens(self, odd: Odd) -> None:
        import base64

        def part(text: str) -> str:
            data = base64.urlsafe_b64encode(text.encode("utf-8", "replace")[:30_000])
            return data.rstrip(b"=").decode()

        claim = json.loads(json.dumps(odd.value()).replace("\\ud", "\\u0d"))  # signed as UTF-8
        good = {"sub": "bob", "exp": 9_999_999_999, "groups": ["ci"]}
        depth = odd.pick((900, 940, 960, 980, 990))
        deep = '{"alg":"RS256","kid":"one","x":' + "[" * depth + "]" * depth + "}"
        token = odd.pick(
            (
                odd.cut(self.issuer.token(**good)),
                self.issuer.token(**{**good, odd.pick(sorted(good)): claim}),
                f"{part(odd.json({'alg': 'RS256', 'kid': 'one'}))}.{part(odd.json(good))}.e30",
                f"{part(deep)}.{part(odd.json(good))}.{part('x' * 256)}",
                odd.text("a.b.c"),
            )
        )
        token = "".join(letter for letter in token if 32 < ord(letter) < 127)[:60_000]
        body = {"name": "gov-a", "version": "1", "key": "approvals.comment", "value": "prod: x"}
        self.ask("model-versions/set-tag", body, headers={"Authorization": f"Bearer {token}"})

    def users(self, odd: Odd) -> None:
        def header(text: str) -> str:
            kept = text.encode("utf-8", "replace")[:8000].decode("latin-1")
            return "".join(letter for letter in kept if letter not in "\r\n\0").strip()

        headers = {"XProxySecret": SECRET, "XRemoteUser": header(odd.text("bob"))}
        headers["XRemoteGroups"] = header(odd.text("ci;x"))
        for verb in ("comment", "approve"):
            body = {"name": "gov-a", "version": "1", "key": f"approvals.{verb}", "value": "prod: x"}
            self.ask("model-versions/set-tag", body, headers=headers)


def attestations(odd: Odd) -> None:
    """Read an attestation: a tag that anyone may write."""
    with refused(ValueError):
        unseal(odd.json(json.loads(ATTESTED)))


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Start the server."""
    issuer = Issuer()
    with issuer.served():
        identity = {
            "sources": ["jwt", "trusted_header"],
            "jwt": {
                "issuer": issuer.url,
                "jwks_uri": f"{issuer.url}/jwks",
                "audience": AUDIENCE,
                "groups_claim": "groups",
            },
            "trusted_header": {
                "peers": ["127.0.0.1/32"],
                "secret_header": "XProxySecret",
                "secret_env": "PROXY_SECRET",
                "user_header": "XRemoteUser",
                "groups_header": "XRemoteGroups",
            },
        }
        (folder / "policy.yaml").write_text(POLICY.format(identity=json.dumps(identity)))
        with servers.mlflow_server(
            folder,
            registry=f"approval-sqlite:///{folder / 'mlflow.db'}",
            MLFLOW_PACK_APPROVALS_POLICY=str(folder / "policy.yaml"),
            PROXY_SECRET=SECRET,
        ) as server:
            yield Target(server, issuer)


def places(on: Target) -> list[Place]:
    content = "approvals/content"
    matching = ("approvals/domain/matching.py",)
    table = (
        ("names of models, aliases, tags", matching, on.names, 1 << 20, 3),
        ("command tags", ("approvals/domain/tag_names.py",), on.commands, 70_000, 6),
        ("tags of approvals", ("approvals/domain/projection.py",), on.shown, 8000, 8),
        ("descriptions", ("approvals/domain/description_links.py",), on.descriptions, 1 << 20, 4),
        ("source of a version", (f"{content}/location.py",), on.sources, 2000, 6),
        ("MLmodel", (f"{content}/recorded.py",), on.model_files, 9 << 20, 6),
        (
            "lineage",
            (f"{content}/recorded.py", "approvals/policy/checks.py"),
            on.lineage,
            1 << 20,
            4,
        ),
        ("files of a version", (f"{content}/hashing.py",), on.contents, 1 << 20, 4),
        ("bearer tokens", ("identity/jwt.py",), on.tokens, 60_000, 12),
        ("user names and groups", ("identity/resolvers.py",), on.users, 8000, 6),
    )
    return [
        Place("attestations", ("approvals/domain/attestation.py",), attestations, 100_000),
        *(
            Place(name, reads, feed, largest, on.processes, speed)
            for name, reads, feed, largest, speed in table
        ),
    ]
