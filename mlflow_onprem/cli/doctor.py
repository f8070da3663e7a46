"""The verb `doctor`."""

from __future__ import annotations

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ExitCode


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Try everything a client does, and check that nothing is exposed. Changes nothing that stays."""
    from mlflow_onprem.core.render import finding_text
    from mlflow_onprem.doctor import render
    from mlflow_onprem.doctor.command import examine

    with session(config) as run:
        found = examine(run.host, run.assemble(), lambda each: None if as_json else print(finding_text(each), flush=True))
    emit("doctor", render.examination_json(found), render.summary_text(found), as_json=as_json)
    return ExitCode.OK if found.healthy else ExitCode.UNHEALTHY
