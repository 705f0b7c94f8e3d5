"""A stock training job behind nginx with tokens of 20 s: no client sees a 401.

MLFLOW_PACK_JOB_SECONDS makes it last longer, and adds an outage of the provider and a revocation.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.auth.support.parts import write_profiles
from tests.auth.support.proxies import Verifier, nginx_auth_request, verifying
from tests.support import servers
from tests.support.oidc import SECRET, OidcProvider, oidc_provider

# Read before the fixtures clean the environment.
IS_LONG = bool(os.environ.get("MLFLOW_PACK_JOB_SECONDS"))
JOB_SECONDS = float(os.environ.get("MLFLOW_PACK_JOB_SECONDS") or "25")
TOKEN_SECONDS = 20
PROCESSES, THREADS = 4, 4


@dataclass
class SignedInJobs:
    """A stock server behind nginx, and the provider whose tokens nginx wants."""

    url: str
    provider: OidcProvider
    verifier: Verifier
    environment: dict[str, str]
    told: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def job(self, seconds: float) -> Iterator[None]:
        """Run the job's processes until all have ended, well."""
        command = [sys.executable, "-m", "tests.auth.support.job", str(seconds), str(THREADS)]
        with contextlib.ExitStack() as stack:
            processes = []
            for _ in range(PROCESSES):
                process = subprocess.Popen(
                    command,
                    cwd=Path(__file__).parents[2],
                    env=self.environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                stack.enter_context(process)
                stack.callback(process.kill)
                processes.append(process)
            yield
            self.finish(processes)

    def finish(self, processes: list[subprocess.Popen[str]]) -> None:
        """Wait for them; each must have met no error, and told no secret."""
        for process in processes:
            output, _ = process.communicate(timeout=JOB_SECONDS + 240)
            assert process.returncode == 0, output[-6000:]
            assert SECRET not in output
            assert " 401" not in output
            assert "Traceback" not in output, output[-6000:]
            self.told += [line for line in output.splitlines() if line.endswith(" rounds")]


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, OidcProvider, Verifier, Path]]:
    folder = tmp_path_factory.mktemp("job")
    with (
        oidc_provider(folder / "oidc", token_seconds=TOKEN_SECONDS) as provider,
        verifying(provider) as verifier,
        servers.mlflow_server(folder / "server", workers=2) as server,
        nginx_auth_request(folder / "nginx", server.url, verifier) as url,
    ):
        yield url, provider, verifier, folder


@pytest.fixture
def site(parts: tuple[str, OidcProvider, Verifier, Path], tmp_path: Path) -> SignedInJobs:
    url, provider, verifier, _ = parts
    verifier.refused.clear()
    config = write_profiles(
        tmp_path / "auth.toml",
        f'[profile.job]\nhosts = ["{url}"]\nsource = "oidc"\nissuer = "{provider.issuer}"\n'
        'client_id = "machine"\nclient_secret = { env = "CLIENT_SECRET" }\nscope = "mlflow"\n',
    )
    environment = servers.clean_environment(
        MLFLOW_TRACKING_URI=url,
        MLFLOW_PACK_AUTH_CONFIG=str(config),
        MLFLOW_PACK_LINEAGE_ENABLED="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        # 40 threads at once are more than the server's SQLite writes in 30 s on a busy machine.
        MLFLOW_ASYNC_LOGGING_THREADPOOL_SIZE="3",
        CLIENT_SECRET=SECRET,
        HOME=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path / "state"),
    )
    return SignedInJobs(url, provider, verifier, environment)


def fetched(site: SignedInJobs, since: float) -> list[float]:
    """Return when tokens were given, since a moment."""
    times = [float(str(grant["at"])) for grant in site.provider.grants()]
    return [moment for moment in times if moment >= since]


@pytest.mark.timeout(JOB_SECONDS + 500)
@pytest.mark.parametrize("trouble", [False, True] if IS_LONG else [False])
def test_a_job_of_four_processes_never_meets_a_401(site: SignedInJobs, trouble: bool) -> None:
    """Nor a failure when the provider is down for 15 s, and then all tokens are revoked."""
    began = time.time()
    with site.job(JOB_SECONDS):
        if trouble:
            make_trouble(site, began)
    moments = fetched(site, began)
    # From the first request that needed one to the last moment, one token after the other.
    needed = math.ceil((time.time() - moments[0]) / TOKEN_SECONDS)
    # For a run with -s.
    sys.stdout.write(
        f"\n{time.time() - began:.0f} s, {', '.join(site.told)}; {len(moments)} tokens fetched, "
        f"{needed} needed; {len(site.verifier.refused)} 401s of nginx, none seen by the job\n"
    )
    assert len(moments) <= needed + 1 + trouble, moments
    if trouble:
        assert site.verifier.refused  # nginx did refuse; the job never noticed


def make_trouble(site: SignedInJobs, began: float) -> None:
    """Let the provider be down across the end of a token, then revoke what it gave."""
    servers.wait_until(lambda: bool(fetched(site, began)), "the first token")
    first = fetched(site, began)[0]
    time.sleep(max(0.0, first + TOKEN_SECONDS - 8 - time.time()))  # the token's own time
    site.provider.fault("down")
    time.sleep(15)
    site.provider.fault(None)
    servers.wait_until(lambda: len(fetched(site, began)) > 1, "the token after the outage")
    site.verifier.revoke_all()
