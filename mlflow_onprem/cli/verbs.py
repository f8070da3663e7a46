"""Every verb in one list: the words a person types, the function that does it, and what Ctrl-C leaves behind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import typer

from mlflow_onprem.cli import backup, bundle, client, config, db_role, doctor, garbage, logs, rotate, sandbox, stack, uninstall, upgrade, user
from mlflow_onprem.core.errors import Interrupted

UNCHANGED = "nothing was changed"
AGAIN = "run the same command again"


@dataclass(frozen=True)
class Verb:
    """`left`: what a verb that was stopped leaves half done, said where nothing more exact is known; `go_on`: the command that goes on."""

    words: str
    run: Callable[..., int]
    left: str = UNCHANGED
    go_on: str = AGAIN


GROUPS = {
    "backup": "Copies of everything, proven by restoring them.",
    "config": "The configuration file: write, check, show.",
    "bundle": "One file with all that a host without a network needs.",
    "user": "Accounts of people. A password comes by prompt, or as one line on standard input.",
    "db-role": "Roles in MLflow's database for people and programs that want SQL: dashboards, notebooks, reports. Never in the accounts' database.",
    "sandbox": "A disposable real systemd host with the stack in it, reachable from this machine.",
}

VERBS = (
    Verb("plan", stack.plan),
    Verb("install", stack.install, "what was done so far stays and is not done again", "resume with: sudo mlflow-onprem install"),
    Verb("status", stack.status),
    Verb("client-env", client.client_env),
    Verb("logs", logs.logs),
    Verb(
        "rotate-credentials",
        rotate.rotate_credentials,
        "a rotation that was begun is half done; services use either the old or the new secrets, and work",
        "finish it with: sudo mlflow-onprem rotate-credentials",
    ),
    Verb("doctor", doctor.doctor, "what it made for its test is deleted by the next one", "run it again: sudo mlflow-onprem doctor"),
    Verb(
        "uninstall",
        uninstall.uninstall,
        "what was removed so far is gone, the rest is still installed",
        "resume with the same command, or bring everything back (what --purge-data deleted excepted): sudo mlflow-onprem install",
    ),
    Verb(
        "gc",
        garbage.gc,
        "what was removed so far is gone for good, everything else is still there",
        "resume with: sudo mlflow-onprem gc",
    ),
    Verb(
        "upgrade",
        upgrade.upgrade,
        "an upgrade that was begun is half done; the databases as they were are kept",
        "finish it or roll it back with: sudo mlflow-onprem upgrade",
    ),
    Verb(
        "restore",
        backup.restore,
        "a restore that was begun is half done",
        "resume with the same command; it finds out how far it came",
    ),
    Verb(
        "backup create",
        backup.create,
        "no backup was made; objects that were copied already are not copied again",
        "run it again: sudo mlflow-onprem backup create",
    ),
    Verb("backup list", backup.list_),
    Verb("backup verify", backup.verify, "nothing was proven, and no backup was changed", AGAIN),
    Verb(
        "backup prune",
        backup.prune,
        "some backups may be removed already, those still listed are complete",
        "resume with: sudo mlflow-onprem backup prune",
    ),
    Verb("config init", config.init),
    Verb("config check", config.check),
    Verb("config show", config.show),
    Verb("bundle create", bundle.create, "no bundle was written"),
    Verb(
        "user add", user.add, "the account may have been made already", "see with: mlflow-onprem user list (sudo); then add it, or give it a password"
    ),
    Verb("user list", user.list_),
    Verb("user passwd", user.passwd, "either the old or the new password is valid", "set it again: sudo mlflow-onprem user passwd NAME"),
    Verb("user remove", user.remove, "what the account owned may have another owner already", "resume with the same command"),
    Verb("user grant", user.grant, "the permission may be given already", "run the same command again: it can be given twice"),
    Verb(
        "db-role add",
        db_role.add,
        "the role may have been made already",
        "see with: sudo mlflow-onprem db-role list; a new password: sudo mlflow-onprem db-role passwd NAME",
    ),
    Verb("db-role list", db_role.list_),
    Verb("db-role passwd", db_role.passwd, "either the old or a new password is valid", "set it again: sudo mlflow-onprem db-role passwd NAME"),
    Verb("db-role remove", db_role.remove, "the role may be removed already", AGAIN),
    Verb(
        "sandbox up",
        sandbox.up,
        "the sandbox may be half made",
        "resume with the same command, or throw it away: sudo mlflow-onprem sandbox down --name NAME",
    ),
    Verb("sandbox shell", sandbox.shell),
    Verb("sandbox status", sandbox.status),
    Verb("sandbox down", sandbox.down, "the sandbox may be half removed", "resume with the same command"),
)


def register(app: typer.Typer) -> None:
    """Add every verb to the program."""
    groups = {name: typer.Typer(help=help_, no_args_is_help=True) for name, help_ in GROUPS.items()}
    for verb in VERBS:
        group, _, name = verb.words.rpartition(" ")
        (groups[group] if group else app).command(name)(framed(verb))
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)


def framed(verb: Verb) -> Callable[..., int]:
    """The verb, with one answer to Ctrl-C wherever it comes: what is half done, and the command that goes on. typer alone would end in silence."""

    @functools.wraps(verb.run)
    def run(*args: object, **options: object) -> int:
        try:
            return verb.run(*args, **options)
        except (KeyboardInterrupt, typer.Abort):
            raise Interrupted(f"stopped by Ctrl-C; {verb.left}", verb.go_on) from None
        except Interrupted as stopped:
            if stopped.hint:  # whoever was stopped knows more exactly
                raise
            raise Interrupted(f"{stopped.message}; {verb.left}", verb.go_on, stopped.output) from stopped

    return run
