"""The verbs of `bundle`: an installation for a host without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ConfigError, ExitCode


def create(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write.")],
    release: Annotated[str | None, typer.Option(help="jammy, noble, bookworm or trixie. [default: this machine's]", show_default=False)] = None,
    architecture: Annotated[str | None, typer.Option(help="amd64 or arm64. [default: this machine's]", show_default=False)] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fetch packages, wheels, the object store and this command for a release into one file. Run it on a connected machine."""
    import dataclasses

    from mlflow_onprem.bundle.command import create as write
    from mlflow_onprem.bundle.render import created_text
    from mlflow_onprem.settings import facts

    target = to.absolute()
    if not target.parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent}", "make it, or name another file")
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        reason = "is a folder" if target.is_dir() else "may not be written by this user"
        raise ConfigError(f"{target} {reason}", "name a file in a folder of yours, such as --to ./mlflow-onprem.bundle")
    with session(config) as run:
        here = facts.parse_os_release((run.host.read("/etc/os-release") or b"").decode()).get("VERSION_CODENAME", "")
        cpu = architecture or facts.ARCHITECTURES.get(os.uname().machine, "amd64")
        made = write(run.host, run.config, target, release or here, cpu, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    emit("bundle create", dataclasses.asdict(made), created_text(made), as_json=as_json)
    return ExitCode.OK
