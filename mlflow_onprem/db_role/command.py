"""`db-role`: roles of people and programs in MLflow's database. Each verb writes the file of roles and converges what follows from it."""

from __future__ import annotations

import dataclasses
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.errors import ConfigError, Refused
from mlflow_onprem.core.resource import Resource
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.database import SettingsInForce, scram_verifier
from mlflow_onprem.resources.db_role import DatabaseRole
from mlflow_onprem.resources.files import MarkedBlock
from mlflow_onprem.settings import credentials, db_roles, topology
from mlflow_onprem.settings.config import Config, SqlName
from mlflow_onprem.settings.db_roles import DbRole
from mlflow_onprem.settings.topology import ExternalPostgres
from mlflow_onprem.stack import postgres
from mlflow_onprem.stack.assembly import Assembly, assemble
from mlflow_onprem.system.local_host import LocalHost

MINIMUM = 12  # characters, as for MLflow's own accounts
LENGTH = 32


@dataclass(frozen=True)
class Access:
    """What somebody needs to connect; the password only where it was just generated."""

    name: str
    read_only: bool
    host: str
    port: int
    database: str
    networks: tuple[str, ...]
    tls: bool
    password: Secret | None = None


def add(host: LocalHost, config: Config, name: str, *, read_only: bool, password: Secret | None) -> Access:
    """Make a role; without a password one is generated. Call it with the lock held. Raises ConfigError, Refused, OnPremError."""
    _check(host, config)
    check_name(config, name)
    if password is not None:
        check_password(password)
    there = db_roles.read(host)
    if name in {each.name for each in there}:
        raise Refused(f"there is a role {name} already", f"a new password for it: sudo mlflow-onprem db-role passwd {name}")
    _must_be_free(host, config, name)
    given = password or generate()
    db_roles.write(host, (*there, DbRole(name, read_only, _verifier(given))))
    return _converged(host, config, name, given if password is None else None)


def new_password(host: LocalHost, config: Config, name: str, password: Secret | None) -> Access:
    """Another password for a role; the old one stops at once, connections that are open stay open."""
    _check(host, config)
    if password is not None:
        check_password(password)
    given = password or generate()
    there = _existing(host, name)
    db_roles.write(host, tuple(dataclasses.replace(each, verifier=_verifier(given)) if each.name == name else each for each in there))
    return _converged(host, config, name, given if password is None else None)


def remove(host: LocalHost, config: Config, name: str) -> None:
    """End its connections and drop it. The role goes first: a run that dies half-way leaves it in the file, and is done again."""
    _check(host, config)
    there = _existing(host, name)
    assembly = assemble(host, config)
    try:
        gone = [dataclasses.replace(each, want=None) for each in assembly.stack if isinstance(each, DatabaseRole) and each.role == name]
        engine.converge(host, Stack(first=tuple(gone)))
    finally:
        assembly.close()
    db_roles.write(host, tuple(each for each in there if each.name != name))
    _converge(host, config)


def every(host: LocalHost, config: Config) -> tuple[Access, ...]:
    """All roles, without a password."""
    _check(host, config)
    there = db_roles.read(host)
    assembly = assemble(host, config)
    assembly.close()
    return tuple(_access(assembly, each, None) for each in there)


def check_name(config: Config, name: str) -> None:
    """Raises ConfigError for a name that is no plain name, or one of the stack's own."""
    try:
        TypeAdapter(SqlName).validate_python(name)
    except ValidationError:
        raise ConfigError(
            f"{name!r} is no name for a role", "lower-case letters, digits and underscores, at most 63, not one of PostgreSQL's own: grafana, team_bi"
        ) from None
    if name in (config.postgres.user, *topology.postgres(config).databases, "public", "none"):
        raise ConfigError(f"{name} is a name of the stack's own", "take another one, such as grafana or team_bi")


def check_password(password: Secret) -> None:
    """Raises ConfigError for one that is too short, or that PostgreSQL's clients would send differently (SASLprep)."""
    text = password.reveal()
    if len(text) < MINIMUM:
        raise ConfigError(f"the password has fewer than {MINIMUM} characters; nothing was changed", "or leave out --ask: one is generated")
    if not text.isascii() or not text.isprintable():
        raise ConfigError("the password holds other characters than printable ASCII; nothing was changed", "leave out --ask: one is generated")


def generate() -> Secret:
    """Letters and digits: nothing that a URL, a shell or an ini file would read otherwise."""
    return Secret("".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(LENGTH)))


def _verifier(password: Secret) -> Secret:
    return Secret(scram_verifier(password.reveal(), secrets.token_bytes(16)))


def _check(host: LocalHost, config: Config) -> None:
    if isinstance(topology.postgres(config), ExternalPostgres):
        raise Refused("the database server is not ours: its administrator makes roles there", "ask whoever runs it")
    if not host.is_root:
        raise Refused("only root may look at and change these roles", "run it with sudo")
    if host.read(credentials.PATH) is None:
        raise Refused("nothing is installed here yet", "sudo mlflow-onprem install")


def _existing(host: LocalHost, name: str) -> tuple[DbRole, ...]:
    there = db_roles.read(host)
    if name not in {each.name for each in there}:
        names = ", ".join(each.name for each in there)
        raise Refused(f"there is no role {name}", f"there are: {names}" if names else "make one: sudo mlflow-onprem db-role add NAME")
    return there


def _must_be_free(host: LocalHost, config: Config, name: str) -> None:
    assembly = assemble(host, config)
    try:
        if assembly.sql.query("postgres", "SELECT 1 FROM pg_roles WHERE rolname = {name}", literals={"name": name}):
            raise Refused(f"PostgreSQL has a role {name} that is not ours", "take another name; what is there is left alone")
    finally:
        assembly.close()


def _converged(host: LocalHost, config: Config, name: str, password: Secret | None) -> Access:
    assembly = _converge(host, config)
    [role] = [each for each in assembly.external.roles if each.name == name]
    return _access(assembly, role, password)


def _converge(host: LocalHost, config: Config) -> Assembly:
    """What follows from the file of roles, and nothing else of the stack."""
    assembly = assemble(host, config)
    try:
        engine.converge(host, Stack(first=tuple(_follows(assembly, assembly.stack))))
    finally:
        assembly.close()
    return assembly


def _follows(assembly: Assembly, stack: Iterable[Resource]) -> Iterable[Resource]:
    hba = postgres.cluster_of(assembly.facts).hba
    for each in stack:
        if isinstance(each, (SettingsInForce, DatabaseRole)) or (isinstance(each, MarkedBlock) and each.path == hba):
            yield each


def _access(assembly: Assembly, role: DbRole, password: Secret | None) -> Access:
    settings, facts = assembly.config.postgres, assembly.facts
    place = facts.names[0] if settings.allowed_networks and facts.names else "127.0.0.1"
    tls = postgres.cluster_of(facts).ssl
    return Access(role.name, role.read_only, place, settings.port, settings.database, settings.allowed_networks, tls, password)
