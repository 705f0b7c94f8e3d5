"""Entry point of ``mlflow-pack``: finds the sub-command, turns errors into exit codes.

Sub-commands are imported only when named, so that ``mlflow-pack auth token`` does not pay for
the artifact store's libraries.
"""

from __future__ import annotations

import importlib
import io
import sys

import click

from mlflow_plugins_pack import __version__
from mlflow_plugins_pack.cli.output import echo

_COMMANDS = {
    "demo": ("mlflow_plugins_pack.cli.demo:demo", "Show a whole promotion on this machine."),
    "doctor": (
        "mlflow_plugins_pack.cli.doctor.command:doctor",
        "Find and explain misconfigurations.",
    ),
    "artifacts": ("mlflow_plugins_pack.cli.artifacts.group:artifacts", "Manage artifact stores."),
    "lineage": ("mlflow_plugins_pack.cli.lineage.group:lineage", "Query data lineage."),
    "auth": ("mlflow_plugins_pack.cli.auth.group:auth", "Sign in to protected servers."),
    "approvals": (
        "mlflow_plugins_pack.cli.approvals.group:approvals",
        "Review and promote versions.",
    ),
    "ship": (
        "mlflow_plugins_pack.cli.ship:ship",
        "Take a version to another server.",
    ),
    "review": (
        "mlflow_plugins_pack.cli.review.group:review",
        "Serve the pages of approvals.",
    ),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module_name, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlflow-pack")
def cli() -> None:
    """Four plugins for stock MLflow: artifacts, lineage, auth, approvals."""


def main() -> None:
    """Run the command; exit with 0 done, 1 refused or found wrong, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal gets no traceback
    try:
        # Outside standalone mode click returns the code of an Exit instead of raising it.
        code = cli.main(standalone_mode=False)
    except click.ClickException as exc:
        if isinstance(exc, click.UsageError) and exc.ctx is not None:
            usage = exc.ctx.get_usage().splitlines()
            echo(*usage, f"Try '{exc.ctx.command_path} --help' for help.", "", err=True)
        _report("Error", exc.format_message())
        sys.exit(exc.exit_code)
    except click.Abort:
        echo("Aborted.", err=True)
        sys.exit(1)
    except Exception as exc:
        from mlflow.exceptions import MlflowException

        if not isinstance(exc, MlflowException):
            raise
        _report("error", exc.message)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _report(word: str, message: str) -> None:
    first, *others = message.splitlines() or [""]
    echo(f"{word}: {first}", *(f"  {line}" for line in others), err=True)
