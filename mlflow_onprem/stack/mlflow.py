"""MLflow: account, environment, secrets, tables, unit."""

from __future__ import annotations

from mlflow_onprem.clients.mlflow_api import MlflowApi
from mlflow_onprem.core.resource import Mode, Phase, Resource, Text, in_phase
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.environment import Environment, EnvironmentState, lock_key
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState, Symlink, SymlinkState
from mlflow_onprem.resources.modules import Modules, ModulesState
from mlflow_onprem.resources.permissions import Way
from mlflow_onprem.resources.rotation import Administrator, Closed, PasswordState, Program
from mlflow_onprem.resources.schema import Schema
from mlflow_onprem.resources.services import Service, ServiceState, digest
from mlflow_onprem.settings import addresses, shared_credentials, topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import Credentials, Stage, accepted
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.settings.topology import ExternalPostgres, ExternalStore, LocalPostgres, LocalStore
from mlflow_onprem.stack import kernel, modules
from mlflow_onprem.stack import service_accounts as accounts
from mlflow_onprem.stack.adopting import Adopting
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.stack.mlflow_connection import local_url
from mlflow_onprem.stack.mlflow_release import lock, schema_of
from mlflow_onprem.system.package_data import read

MIB = 1 << 20
ETC = "/etc/mlflow-onprem"
ENVIRONMENTS = "/opt/mlflow-onprem/environments"
MODULES = "/opt/mlflow-onprem/server"
UNIT = "/etc/systemd/system/mlflow.service"
#: Files that a worker reads when it starts; for all others the service itself has to start anew.
REREAD = ("s3-credentials", "flask-secret-key", "kek-passphrase", "webhook-key", "pgpass")


def environment(config: Config, facts: Facts, uv: str) -> Environment:
    """The Python environment, in a folder named after all that it is made of."""
    settings = config.mlflow
    python = {"apt": f"/usr/bin/python{facts.python_version}", "uv": facts.python_version}.get(facts.python, facts.python)
    requirements = lock(settings.version, facts.locks)
    key = lock_key(requirements, python, settings.extra_packages)
    folder = f"{ENVIRONMENTS}/{settings.version}-{key}"
    return Environment(folder, python, requirements, EnvironmentState(key), settings.extra_packages, f"{MODULES}/current", uv, facts.python_why)


def python_lane(config: Config, facts: Facts, uv: str) -> tuple[Resource, ...]:
    """What needs neither the store nor the database."""
    made = environment(config, facts, uv)
    return (
        *in_phase(
            Phase.BUILD,
            accounts.user(config.mlflow.user, "/var/lib/mlflow", facts),
            Directory(ENVIRONMENTS, DirectoryState(Mode(0o755), "root", "root")),
            made,
            Way(made.directory, config.mlflow.user),
            Directory(MODULES, DirectoryState(Mode(0o755), "root", "root")),
            Modules(f"{MODULES}/{modules.key()}", modules.contents(), f"{made.directory}/bin/python", ModulesState(modules.key())),
        ),
        *in_phase(
            Phase.DATA,
            Symlink(f"{ENVIRONMENTS}/current", SymlinkState(made.directory.rpartition("/")[2])),
            Symlink(f"{MODULES}/current", SymlinkState(modules.key())),
        ),
    )


def resources(
    config: Config, credentials: Credentials, facts: Facts, to: Connections, uv: str, adopting: Adopting, *, may_migrate: bool
) -> tuple[Resource, ...]:
    """The service itself, when store, database and environment are there."""
    files = _files(config, credentials, facts)
    made = environment(config, facts, uv)
    user = config.mlflow.user
    group, account = facts.group_of(user), accounts.drop_in("mlflow.service", user, "mlflow", facts)
    less = kernel.drop_in("mlflow.service", facts)
    unit = File(UNIT, FileState(Text(read("units/mlflow.service")), Mode(0o644), "root", "root"))
    auth, sql = config.mlflow.auth, topology.postgres(config)
    wanted, steps = schema_of(config.mlflow.version, accounts=auth.enabled)
    # Workers read these anew when they are replaced; the administrator's first password is read at the bootstrap alone.
    reread = [file for file in files if file.path.rpartition("/")[2] in REREAD]
    service_files = [file for file in files if file not in reread and not file.path.endswith("/admin-password")]
    counted = (*service_files, unit, *accounts.wanted(less, account))
    return (
        *in_phase(
            Phase.SCHEMA,
            Directory(f"{ETC}/mlflow", DirectoryState(Mode(0o750), "root", group)),
            accounts.hand_over("/var/lib/mlflow", user, "mlflow.service", facts),
            Directory("/var/lib/mlflow", DirectoryState(Mode(0o700), user, group)),
            *files,
            *_other_password(config, credentials, facts),
            Schema(
                to.sql,
                sql.database,
                auth.database if auth.enabled else None,
                credentials.mlflow_admin,
                f"{made.directory}/bin/python",
                service_settings(config, facts),
                wanted,
                may_migrate=may_migrate,
                steps=steps,
                user=user,
            ),
            *adopting.tables,
            unit,
            *accounts.with_folder(less, account),
        ),
        *in_phase(
            Phase.SERVE,
            Service(
                "mlflow.service",
                ServiceState(enabled=True, active=True, inputs=digest(counted, [made.directory, modules.key()]), rereads=digest(reread)),
                to.systemd,
                paths=(
                    *(file.path for file in (*service_files, unit, less, account)),
                    f"{made.directory}/environment.json",
                    f"{MODULES}/{modules.key()}",
                ),
                reread_paths=tuple(file.path for file in reread),
                ports=(config.mlflow.port,),
            ),
            *adopting.done,
            *_rotation(config, credentials, facts, to, made),
        ),
    )


def _rotation(config: Config, credentials: Credentials, facts: Facts, to: Connections, made: Environment) -> tuple[Resource, ...]:
    """What only a rotation that has its new values in use wants, before the old ones are withdrawn."""
    rotation = credentials.rotation
    if rotation is None or rotation.stage is not Stage.CURRENT or "mlflow" not in rotation.scope:
        return ()
    program = Program(f"{made.directory}/bin/python", service_settings(config, facts), config.mlflow.user)
    database = topology.postgres(config).database
    name, url = credentials.mlflow_admin, local_url(config)
    new, *old = accepted(credentials, "mlflow_admin_password")
    account = Administrator(name, PasswordState(new), tuple(old), lambda password: MlflowApi(url, name, password), program)
    return (Closed(to.sql, database, program), *([account] if config.mlflow.auth.enabled else []))


def workers(config: Config, facts: Facts) -> int:
    """Worker processes: one a core, two at least, eight at most; a small host gets one (bench/README.md)."""
    if config.mlflow.workers != "auto":
        return config.mlflow.workers
    if facts.memory < 2 << 30:
        return 1
    return max(2, min(facts.cores, 8, (facts.memory // MIB - 1500) // 400))


def service_settings(config: Config, facts: Facts) -> tuple[tuple[str, str], ...]:
    settings = config.mlflow
    sql, store = topology.postgres(config), topology.store(config.minio)
    count = workers(config, facts)
    pairs = {
        "ONPREM_DATABASE_URI": sql.uri(sql.database),
        "ONPREM_BUCKET": config.minio.bucket,
        "ONPREM_HOST": settings.bind,
        "ONPREM_PORT": str(settings.port),
        "ONPREM_WORKERS": str(count),
        "ONPREM_ARTIFACTS": settings.artifacts,
        "ONPREM_AUTH": str(settings.auth.enabled).lower(),
        "ONPREM_JOBS": str(settings.jobs).lower(),
        # The host's own names the server finds itself, and addresses it need not know: both change without an install.
        "ONPREM_HOSTS": ",".join(settings.hosts),
        "ONPREM_ORIGINS": ",".join(settings.origins),
        "ONPREM_WEBHOOK_HOSTS": ",".join(settings.webhook_hosts),
        "ONPREM_FLASK_SECRET_FILE": f"{ETC}/mlflow/flask-secret-key",
        "ONPREM_KEK_PASSPHRASE_FILE": f"{ETC}/mlflow/kek-passphrase",
        "ONPREM_WEBHOOK_KEY_FILE": f"{ETC}/mlflow/webhook-key",
        "ONPREM_ADMIN_PASSWORD_FILE": f"{ETC}/mlflow/admin-password",
        "MLFLOW_AUTH_CONFIG_PATH": f"{ETC}/mlflow/auth.ini",
        "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
        "AWS_SHARED_CREDENTIALS_FILE": f"{ETC}/mlflow/s3-credentials",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_DEFAULT_REGION": config.minio.region,
        "HOME": "/var/lib/mlflow",
        "TMPDIR": "/var/tmp",  # noqa: S108  # PrivateTmp gives the service one of its own
    }
    if settings.artifacts == "presigned":
        pairs["ONPREM_PUBLIC_S3_URL"] = public_store_url(config, facts)
        if not config.minio.public_url and isinstance(store, LocalStore):
            pairs["ONPREM_PUBLIC_S3_FOLLOWS"] = "true"
    if isinstance(sql, ExternalPostgres):
        pairs["PGPASSFILE"] = f"{ETC}/mlflow/pgpass"
    return tuple(pairs.items())


def public_store_url(config: Config, facts: Facts) -> str:
    """Where clients reach the store: as configured, otherwise this host's first address."""
    if config.minio.public_url:
        return config.minio.public_url
    store = topology.store(config.minio)
    if isinstance(store, ExternalStore):
        return store.endpoint
    return f"http://{addresses.store_address(facts)}:{config.minio.port}"


def _files(config: Config, credentials: Credentials, facts: Facts) -> tuple[File, ...]:
    settings = "".join(f"{name}={value}\n" for name, value in service_settings(config, facts))
    header = "# Written by mlflow-onprem from config.toml. No secret stands here.\n"
    files = {
        "s3-credentials": shared_credentials.write(credentials.s3_access_key, credentials.s3_secret_key),
        "flask-secret-key": Secret(credentials.flask_secret_key.reveal() + "\n"),
        # The one to close with, and while others may still have closed with another one, that one too.
        "kek-passphrase": _lines(accepted(credentials, "kek_passphrase")),
        "webhook-key": _lines(accepted(credentials, "webhook_key")),
    }
    if config.mlflow.auth.enabled:
        files["admin-password"] = Secret(credentials.mlflow_admin_password.reveal() + "\n")
    if isinstance(topology.postgres(config), ExternalPostgres):
        files["pgpass"] = _pgpass(accepted(credentials, "postgres_password")[0])
    group = facts.group_of(config.mlflow.user)
    return (
        File(f"{ETC}/mlflow.env", FileState(Text(header + settings), Mode(0o644), "root", "root")),
        File(f"{ETC}/mlflow/auth.ini", FileState(Text(_auth_ini(config, credentials)), Mode(0o640), "root", group)),
        *(File(f"{ETC}/mlflow/{name}", FileState(value, Mode(0o600), config.mlflow.user, group)) for name, value in files.items()),
    )


def _other_password(config: Config, credentials: Credentials, facts: Facts) -> tuple[File, ...]:
    """For a database that is not ours, the other password that may count while its role gets a new one (server/database.py)."""
    if isinstance(topology.postgres(config), LocalPostgres):
        return ()
    _, *others = accepted(credentials, "postgres_password")
    owners = (config.mlflow.user, facts.group_of(config.mlflow.user))
    state = FileState(_pgpass(others[0]), Mode(0o600), *owners) if others else None
    return (File(f"{ETC}/mlflow/pgpass-other", state),)


def _pgpass(password: Secret) -> Secret:
    escaped = password.reveal().replace("\\", "\\\\").replace(":", "\\:")
    return Secret(f"*:*:*:*:{escaped}\n")


def _lines(values: tuple[Secret, ...]) -> Secret:
    return Secret("".join(f"{each.reveal()}\n" for each in values))


def _auth_ini(config: Config, credentials: Credentials) -> str:
    auth = config.mlflow.auth
    uri = topology.postgres(config).uri(auth.database).replace("%", "%%")
    return (
        "# Written by mlflow-onprem from [mlflow.auth] of config.toml. No secret stands here.\n[mlflow]\n"
        f"default_permission = {auth.default_permission}\ndatabase_uri = {uri}\nadmin_username = {credentials.mlflow_admin}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        f"grant_default_workspace_access = false\nauth_cache_ttl_seconds = {auth.cache_seconds}\nauth_cache_max_size = 10000\n"
    )
