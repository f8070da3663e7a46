"""The verbs of the running stack: plan, install, status; client-env and logs beside them."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_onprem.cli.client import client_env
from mlflow_onprem.cli.logs import logs
from mlflow_onprem.cli.run import ConfigOption, JsonOption, VerboseOption, emit, exclusive, interruptible
from mlflow_onprem.cli.watch import watch_status
from mlflow_onprem.core.errors import ConfigError, ExitCode


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command()(plan)
    app.command()(install)
    app.command()(status)
    app.command("client-env")(client_env)
    app.command()(logs)


def plan(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show every resource that would change, field by field. Changes nothing."""
    from mlflow_onprem.core import engine
    from mlflow_onprem.install import render, render_adoption
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack import preflight
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.system.local_host import LocalHost

    host = LocalHost()
    assembly = assemble(host, load(config).config)
    found = engine.plan(host, assembly.stack)
    stops = preflight.foreseen(host, assembly)
    assembly.close()
    before = "" if assembly.adoption is None else render_adoption.before_text(assembly.adoption)
    notes = [assembly.facts.python_why] if any(each.resource.startswith("environment:") for each in found.changes) else []
    notes += stops
    before += "".join(f"{note}\n\n" for note in notes if note)
    body = render.plan_json(found) | {"notes": [note for note in notes if note]}
    body |= {} if assembly.adoption is None else {"warnings": list(assembly.adoption.warnings)}
    emit("plan", body, before + render.plan_text(found), as_json=as_json)
    return ExitCode.CHANGES if found.changes else ExitCode.OK


def install(config: ConfigOption = None, as_json: JsonOption = False, verbose: VerboseOption = False) -> int:
    """Make this host the stack; run again, it changes nothing."""
    from mlflow_onprem.cli import progress
    from mlflow_onprem.cli.upgrade import recover as recover_upgrade
    from mlflow_onprem.client.env import next_steps
    from mlflow_onprem.core import engine
    from mlflow_onprem.install import render, render_adoption
    from mlflow_onprem.rotation import command
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack import adoption, health, kernel, preflight
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.status.render import status_text
    from mlflow_onprem.system.local_host import LocalHost

    loaded, host = load(config), LocalHost()
    with exclusive(), progress.make(verbose=verbose) as shown, interruptible(host, shown) as stop:
        host.on_say, host.on_progress = shown.say, shown.transfer
        recover_upgrade(host, loaded.config, shown)
        assembly = assemble(host, loaded.config)
        preflight.check(host, assembly)
        report = engine.converge(host, assembly.stack, shown.event, stop)
        command.finish_interrupted(host, loaded.config, shown.event, stop)
        verdicts = health.wait(host, assembly.to.systemd, assembly.probes())
        assembly.close()
    less = kernel.remarks(assembly.facts)
    found = assembly.adoption
    adopted = [] if found is None else render_adoption.after_text(found, adoption.told(host, found))
    changed = f"{len(report.changed)} changed, {report.unchanged} as wanted, in {report.seconds:.1f} s"
    text = "\n".join(
        [
            status_text(verdicts),
            "",
            changed,
            *next_steps(host, loaded.config, assembly.facts),
            *adopted,
            *(f"warning: {each}" for each in less),
        ]
    )
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
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.settings.credentials import UNFINISHED, read_dates
    from mlflow_onprem.settings.secret_age import ages
    from mlflow_onprem.stack import health
    from mlflow_onprem.stack.assembly import probes_and_systemd
    from mlflow_onprem.status.render import status_text, verdict_json
    from mlflow_onprem.system.local_host import LocalHost

    loaded, host = load(config).config, LocalHost()
    asked, systemd = probes_and_systemd(host, loaded)
    if watch:
        if as_json:
            raise ConfigError("--json prints one object and ends; it does not watch", "leave out --watch, or --json")
        return watch_status(systemd, asked)
    verdicts = health.look(systemd, asked)
    healthy = all(each.healthy for each in verdicts)
    dates = read_dates(host)
    secrets = ages(dates, loaded)
    backups, now = summary.read(host), datetime.now(timezone.utc)
    body = {
        "healthy": healthy,
        "services": [verdict_json(each) for each in verdicts],
        "secrets": render_rotation.ages_json(secrets),
        "backups": summary.as_json(backups, now),
    }
    beside = [render_rotation.ages_text(secrets, dates.get(UNFINISHED)), summary.line(backups, now)]
    text = "\n".join([status_text(verdicts), "", *(each for each in beside if each)])
    emit("status", body, text, as_json=as_json)
    return ExitCode.OK if healthy else ExitCode.UNHEALTHY
