"""The places where bytes enter the review app; it runs in this process, next to a real server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.fuzz.support.odd_inputs import Odd
from tests.fuzz.support.running import FuzzError, Place
from tests.fuzz.support.server_places import DOCUMENT, LINEAGE, MLMODEL, SECRET, Target

API = "/approvals/api/v1"
OLD_API = "/api/2.0/mlflow"
SIGNATURE = "signature:\n  inputs:\n  - {name: a, type: object, properties: {x: {type: long}}}\n"
VIEWS = ("open", "mine", "waiting", "closed", "all")


class Reviewed:
    """The review app over a server whose callers a proxy names."""

    def __init__(self, on: Target, app: Any) -> None:
        from starlette.testclient import TestClient

        self.client = TestClient(
            app, raise_server_exceptions=False, client=("127.0.0.1", 1), follow_redirects=False
        )
        self.on = on
        on.promote()
        asked = {"model": "gov-a", "version": 1, "target": "prod"}
        self.ask("POST", f"{API}/requests", json.dumps(asked).encode())
        (found, *_) = self.ask("GET", f"{API}/requests").json()["requests"]
        self.request = found["id"]
        self.token = ""

    def ask(self, verb: str, path: str, body: bytes = b"", kind: str = "application/json") -> Any:
        """Send a request; its answer must not be a failure of the app."""
        answer = self.client.request(
            verb,
            path,
            content=body,
            headers={"XRemoteUser": "eve", "XProxySecret": SECRET, "Content-Type": kind},
        )
        if answer.status_code >= 500:
            raise FuzzError(f"{verb} {path[:300]}: {answer.status_code} {answer.text[:500]}")
        return answer

    def bodies(self, odd: Odd) -> None:
        about = {"name": "gov-a", "version": "1", "stage": "Production", "comment": "x"}
        calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("POST", f"{API}/requests", {"model": "gov-a", "version": 1, "target": "prod"}),
            ("POST", f"{API}/requests/{self.request}/comments", {"text": "x"}),
            ("POST", f"{API}/requests/{self.request}/approve", {"comment": "x"}),
            ("POST", f"{API}/requests/{self.request}/withdraw", {"comment": "x"}),
            ("PATCH", f"{API}/comments/{self.request}", {"text": "x"}),
            ("POST", f"{OLD_API}/transition-requests/create", about),
            ("POST", f"{OLD_API}/transition-requests/reject", about),
            ("POST", f"{OLD_API}/comments/create", about),
        )
        verb, path, valid = odd.pick(calls)
        odd_field = json.dumps({**valid, odd.pick(sorted(valid)): odd.text("gov-a", "prod")})
        text = odd.pick((odd_field, odd.json(valid)))
        self.ask(verb, path, odd.pick((text.encode("utf-8", "surrogatepass"), odd.data())))

    def queries(self, odd: Odd) -> None:
        def word(*words: str) -> str:
            return quote(odd.text(*words)[:3000].encode("utf-8", "surrogatepass"))

        paths = (
            f"{API}/requests?view={odd.pick(VIEWS)}&text={word('gov')}&model={word('gov-a')}",
            f"{API}/requests?target={word('prod', 'stage:Production')}&page_token={word('1')}",
            f"{API}/requests/{word(self.request)}",
            f"{API}/audit?model={word('gov-a')}&page_token={word('1')}",
            f"{API}/holders?model={word('gov-a')}",
            f"{API}/policy/explain?model={word('gov-a')}&target={word('prod')}&user={word('bob')}",
            f"/approvals/?text={word('gov')}&target={word('prod')}&page_token={word('1')}",
            f"/approvals/models?text={word('gov')}&page_token={word('1')}",
            f"/approvals/models/model?name={word('gov-a')}&version={word('1')}",
            f"/approvals/models/model?name=gov-a&version={word('1')}",
            f"/approvals/requests/{word(self.request)}",
            f"/approvals/audit?model={word('gov-a')}&before={word('1')}",
            f"/approvals/policy?model={word('gov-a')}&target={word('prod')}&user={word('bob')}",
            f"{OLD_API}/transition-requests/list?name={word('gov-a')}&version={word('1')}",
        )
        self.ask("GET", odd.pick(paths))

    def forms(self, odd: Odd) -> None:
        from mlflow_plugins_pack.approvals.api.protection import CSRF_FIELD
        from mlflow_plugins_pack.approvals.web.rendering import CSRF_COOKIE

        if not self.token:
            self.ask("GET", f"/approvals/requests/{self.request}")
            self.token = self.client.cookies[CSRF_COOKIE]
        field = quote(odd.text("approve", "comment").encode("utf-8", "surrogatepass"))
        known = f"{CSRF_FIELD}={self.token}&"
        body = odd.pick(
            (
                f"{known}action=comment&text={field}",
                f"{known}action={field}&comment={field}",
                f"{known}target={field}&version={field}&comment={field}",
                "&".join("a" * odd.chance.randint(1, 40) for _ in range(40)),
                odd.text("action=comment"),
            )
        )
        data = odd.pick((body.encode("utf-8", "surrogatepass"), odd.data()))
        pages = ("models/model?name=gov-a", f"requests/{self.request}", f"comments/{self.request}")
        kind = "application/x-www-form-urlencoded"
        self.ask("POST", f"/approvals/{odd.pick(pages)}", data, kind)

    def contents(self, odd: Odd) -> None:
        """Show a version whose model and lineage any user with EDIT has written."""
        on = self.on
        text = odd.pick((odd.yaml(MLMODEL), f"{MLMODEL}x:\n{odd.yaml(SIGNATURE)}"))
        on.put("model/MLmodel", text.encode("utf-8", "replace"))
        on.put("model/requirements.txt", odd.data(b"a==1\nb>=2\n"))
        entries = [{**LINEAGE[0], odd.pick("urnhvm"): odd.value(), "files": odd.value(0)}]
        for key in ("inputs", "truncated", "coverage", "code"):
            value = json.dumps(entries) if key == "inputs" else odd.json({"inputs": 1})
            body = {"run_id": on.run, "key": f"lineage.{key}", "value": value[:8000]}
            on.ask("runs/set-tag", body)
        on.put("lineage/lineage.json", odd.json(DOCUMENT).encode("utf-8", "replace"))
        self.ask("GET", f"/approvals/requests/{self.request}")
        self.ask("GET", f"{API}/requests/{self.request}")
        on.put("model/MLmodel", MLMODEL.encode())

    def searches(self, odd: Odd) -> None:
        words = ("models:/gov-a/1", f"runs:/{self.on.run}", "s3://data/a.csv", "sha256:ab")
        target = quote(odd.text(*words)[:3000].encode("utf-8", "surrogatepass"))
        self.ask("GET", odd.pick((f"{API}/lineage", "/approvals/lineage")) + f"?target={target}")


@contextlib.contextmanager
def places(on: Target) -> Iterator[list[Place]]:
    """Start the app."""
    from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer
    from mlflow_plugins_pack.approvals.api.review import Review, Site
    from mlflow_plugins_pack.approvals.plugin import build_store
    from mlflow_plugins_pack.review.serving import create_review_app

    with pytest.MonkeyPatch.context() as patch:
        folder = on.server.log.parent
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        patch.setenv("PROXY_SECRET", SECRET)
        store = build_store(f"approval-sqlite:///{folder / 'mlflow.db'}")
        app = create_review_app(Review(lambda: store, MlflowServer(on.server.url), Site()))
        try:
            yield _places(Reviewed(on, app))
        finally:
            store.engine.dispose()


def _places(app: Reviewed) -> list[Place]:
    api, web = "approvals/api", "approvals/web"
    table: tuple[tuple[str, tuple[str, ...], Any, int, int], ...] = (
        (
            "bodies of the review app",
            (f"{api}/requests.py", f"{api}/databricks.py", f"{api}/protection.py"),
            app.bodies,
            200_000,
            10,
        ),
        ("queries of the review app", (f"{api}/governance.py", f"{web}/"), app.queries, 3000, 10),
        ("forms of the review app", (f"{web}/forms.py",), app.forms, 200_000, 10),
        (
            "versions on pages",
            (f"{web}/", "approvals/content/recorded.py"),
            app.contents,
            1 << 20,
            4,
        ),
        ("searches of lineage", ("review/lineage_page.py",), app.searches, 3000, 10),
    )
    return [
        Place(name, reads, feed, largest, speed=speed)
        for name, reads, feed, largest, speed in table
    ]
