"""The verbs of the running stack: plan, install, status."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption, VerboseOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ConfigError, ExitCode


def plan(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show every resource that would change, field by field. Changes nothing."""
    from mlflow_onprem.core import engine
    from mlflow_onprem.install import render
    from mlflow_onprem.stack import preflight

    with session(config) as run:
        assembly = run.assemble()
        found = engine.plan(run.host, assembly.stack)
        stops = preflight.foreseen(run.host, assembly)
    planned = render.Planned(found, assembly.adoption, assembly.facts.python_why, tuple(stops))
    emit("plan", render.planned_json(planned), render.planned_text(planned), as_json=as_json)
    return ExitCode.CHANGES if found.changes else ExitCode.OK


def install(config: ConfigOption = None, as_json: JsonOption = False, verbose: VerboseOption = False) -> int:
    """Make this host the stack; run again, it changes nothing."""
    from mlflow_onprem.cli.upgrade import recover as recover_upgrade
    from mlflow_onprem.client.env import next_steps
    from mlflow_onprem.core import engine
    from mlflow_onprem.install import render, render_adoption
    from mlflow_onprem.rotation import command
    from mlflow_onprem.stack import adoption, health, kernel, preflight

    with session(config, alone=True) as run, run.watched(verbose=verbose, gently=True) as shown:
        recover_upgrade(run, shown)
        assembly = run.assemble()
        preflight.check(run.host, assembly)
        report = engine.converge(run.host, assembly.stack, shown.event, run.stop)
        command.finish_interrupted(run.host, run.config, shown.event, run.stop)
        verdicts = health.wait(run.host, assembly.to.systemd, assembly.probes())
    found = assembly.adoption
    adopted = [] if found is None else render_adoption.after_text(found, adoption.told(run.host, found))
    less = kernel.remarks(assembly.facts)
    text = render.installed_text(report, verdicts, [*next_steps(run.host, run.config, assembly.facts), *adopted], less)
    emit("install", render.report_json(report, verdicts) | ({"warnings": list(less)} if less else {}), text, as_json=as_json)
    return ExitCode.OK


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every 2 s, until q or Ctrl-C.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Ask 9000, 5432 and 5000 whether they really serve, and say how old secrets and backups are. Needs no root."""
    from datetime import datetime, timezone

    from mlflow_onprem.backup import summary
    from mlflow_onprem.rotation import render as render_rotation
    from mlflow_onprem.settings.credentials import UNFINISHED, read_dates
    from mlflow_onprem.settings.secret_age import ages
    from mlflow_onprem.stack import health
    from mlflow_onprem.stack.assembly import probes_and_systemd
    from mlflow_onprem.status.render import status_text, verdict_json

    with session(config) as run:
        asked, systemd = probes_and_systemd(run.host, run.config)
        if watch:
            if as_json:
                raise ConfigError("--json prints one object and ends; it does not watch", "leave out --watch, or --json")
            from mlflow_onprem.cli.watch import watch_status

            return watch_status(systemd, asked)
        verdicts = health.look(systemd, asked)
        healthy = all(each.healthy for each in verdicts)
        dates = read_dates(run.host)
        secrets = ages(dates, run.config)
        backups, now = summary.read(run.host), datetime.now(timezone.utc)
    body = {
        "healthy": healthy,
        "services": [verdict_json(each) for each in verdicts],
        "secrets": render_rotation.ages_json(secrets),
        "backups": summary.as_json(backups, now),
    }
    text = status_text(verdicts, [render_rotation.ages_text(secrets, dates.get(UNFINISHED)), summary.line(backups, now)])
    emit("status", body, text, as_json=as_json)
    return ExitCode.OK if healthy else ExitCode.UNHEALTHY
