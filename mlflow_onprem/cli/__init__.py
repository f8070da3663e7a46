"""The command line: verbs and options, errors to exit codes. The only place that exits."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mlflow_onprem import __version__
from mlflow_onprem.cli import streams, verbs
from mlflow_onprem.cli.output import report_error
from mlflow_onprem.core.errors import ExitCode, Interrupted, OnPremError
from mlflow_onprem.system.umask import UMASK

app = typer.Typer(
    name="mlflow-onprem",
    help="One plain server becomes a complete, self-hosted MLflow Tracking stack, and stays one.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # in rich's own markup [default: ...] and [backup] are tags, and vanish
    pretty_exceptions_show_locals=False,  # locals hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """One plain server becomes a complete, self-hosted MLflow Tracking stack, and stays one."""


verbs.register(app)


def main() -> None:
    """Run one command and exit with its code."""
    streams.open_missing()
    os.umask(UMASK)
    if sys.argv[1:] == ["--version"]:
        print(f"mlflow-onprem {__version__}")
        sys.exit(ExitCode.OK)
    try:
        code = app(standalone_mode=False)
        with streams.writing():
            pass  # what is still held back goes out
    except OnPremError as error:
        from mlflow_onprem.stack.disk_space import explained
        from mlflow_onprem.system.local_host import LocalHost

        report_error(explained(LocalHost(), error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):  # before a verb began; from then on verbs.framed answers it
        stopped = Interrupted("stopped by Ctrl-C; nothing was changed")
        report_error(stopped)
        sys.exit(stopped.exit_code)
    except BrokenPipeError:
        if not streams.nobody_reads():
            raise
        streams.silence()  # as other programs do whose output goes to `head`
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        # Wrong usage is typer's to explain: it knows the verb and its options.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", ExitCode.USAGE))
    sys.exit(code if isinstance(code, int) else ExitCode.OK)
