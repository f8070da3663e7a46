"""The verb `doctor`."""

from __future__ import annotations

from mlflow_onprem.cli.run import ConfigOption, JsonOption, emit
from mlflow_onprem.errors import ExitCode


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """End to end through the door that clients use, and the doors that must be shut. Changes nothing that stays."""
    from mlflow_onprem import render_doctor
    from mlflow_onprem.assembly import assemble
    from mlflow_onprem.commands.doctor import examine
    from mlflow_onprem.config_file import load
    from mlflow_onprem.host import LocalHost

    host = LocalHost()
    assembly = assemble(host, load(config).config)
    try:
        found = examine(host, assembly, lambda each: None if as_json else print(render_doctor.finding_text(each), flush=True))
    finally:
        assembly.close()
    emit("doctor", render_doctor.examination_json(found), render_doctor.summary_text(found), as_json=as_json)
    return ExitCode.OK if found.healthy else ExitCode.UNHEALTHY
