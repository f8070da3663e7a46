"""The verb `doctor`."""

from __future__ import annotations

from mlflow_onprem.cli.run import ConfigOption, JsonOption, emit
from mlflow_onprem.core.errors import ExitCode


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Try everything a client does, and check that nothing is exposed. Changes nothing that stays."""
    from mlflow_onprem.core.render import finding_text
    from mlflow_onprem.doctor import render
    from mlflow_onprem.doctor.command import examine
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.system.local_host import LocalHost

    host = LocalHost()
    assembly = assemble(host, load(config).config)
    try:
        found = examine(host, assembly, lambda each: None if as_json else print(finding_text(each), flush=True))
    finally:
        assembly.close()
    emit("doctor", render.examination_json(found), render.summary_text(found), as_json=as_json)
    return ExitCode.OK if found.healthy else ExitCode.UNHEALTHY
