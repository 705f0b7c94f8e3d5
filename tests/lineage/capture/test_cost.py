"""What capture costs in processor time; `benchmarks lineage` has the figures.

The bounds are wide, for shared machines: they tell a mistake from noise and no more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import servers

OPENS = """
import json, os, sys, time
import mlflow_plugins_pack.lineage.plugin as plugin
provider = plugin.LineageContextProvider()
def seconds(path, count):
    best = 1e9
    for _ in range(5):
        began = time.thread_time()
        for _ in range(count):
            os.close(os.open(path, os.O_RDONLY))
        best = min(best, time.thread_time() - began)
    return best / count * 1e6
print(json.dumps({"noise": seconds("/etc/hostname", 5000), "data": seconds(sys.argv[1], 5000)}))
"""


def test_cost_per_open(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x")

    def measured(enabled: str) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", OPENS, str(tmp_path / "x.csv")],
            env=servers.clean_environment(MLFLOW_PACK_LINEAGE_ENABLED=enabled),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found

    off, on = measured("false"), measured("true")
    assert on["noise"] - off["noise"] < 20
    assert on["data"] - off["data"] < 60


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_plugin_module_loads_in_milliseconds(enabled: str) -> None:
    code = (
        "import mlflow, sys, time\n"
        "for name in [m for m in sys.modules if m.startswith('mlflow_plugins_pack')]:\n"
        "    del sys.modules[name]\n"
        "began = time.process_time()\n"
        "import mlflow_plugins_pack.lineage.plugin as plugin\n"
        "plugin.LineageContextProvider()\n"
        "print(time.process_time() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=servers.clean_environment(MLFLOW_PACK_LINEAGE_ENABLED=enabled),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert float(done.stdout) < 0.1


STATEMENT = """
import json, sys, time
from mlflow_plugins_pack.lineage.session import session
session.start()
values = ",".join(f"'{number}'" for number in range(50_000))
statement = f"SELECT * FROM t WHERE id IN ({values})"
began = time.thread_time()
session.current().emit_statement(statement, "postgresql://host:5432/shop/public")
seconds = time.thread_time() - began
print(json.dumps([seconds, "sqlglot" in sys.modules]))
"""


def test_a_statement_is_not_parsed_in_the_callers_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATEMENT],
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seconds, is_parser_loaded = json.loads(done.stdout)
    assert seconds < 0.02
    assert not is_parser_loaded
