"""The object store: account, folders, program, secrets, unit; then bucket and access key."""

from __future__ import annotations

import ipaddress

from mlflow_onprem.clients.bucket_policy import bucket_policy
from mlflow_onprem.clients.store_errors import StoreRefused, StoreUnreachable
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Mode, Phase, Resource, Text, in_phase
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.binary import BinaryState, Build, Download, PinnedBinary
from mlflow_onprem.resources.bucket import AccessKey, AccessKeyState, Bucket, BucketState, policy_text
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState, Symlink, SymlinkState
from mlflow_onprem.resources.permissions import Way
from mlflow_onprem.resources.services import Service, ServiceState, digest
from mlflow_onprem.resources.store_features import StoreFeatures, wanted
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import MinioSection
from mlflow_onprem.settings.credentials import Credentials, Stage
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.settings.topology import ExternalStore
from mlflow_onprem.stack import kernel, service_accounts
from mlflow_onprem.stack.adopting import Adopting
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.system.package_data import read

ETC = "/etc/mlflow-onprem"
STORE = "/opt/mlflow-onprem/object-store"
UNIT = "/etc/systemd/system/minio.service"
#: Says that objects were stored in the folders it names: from then on a store without them must not start in their place.
FOUNDED = "/var/lib/mlflow-onprem/object-store-founded"
RELEASES = "https://github.com"
#: Pinned releases with their sha256; asset names carry the architecture.
SILO = {
    "amd64": Download(
        f"{RELEASES}/pgsty/silo/releases/download/RELEASE.2026-09-16T00-00-00Z/silo_20260916000000.0.0_linux_amd64.tar.gz",
        "381e745510a8fb64323d7bb3207f95984b7f4ed826f4fcad318f97683c420c73",
    ),
    "arm64": Download(
        f"{RELEASES}/pgsty/silo/releases/download/RELEASE.2026-09-16T00-00-00Z/silo_20260916000000.0.0_linux_arm64.tar.gz",
        "6e697d3e1d70f2343fe829cd6820a0b840d4619f1dde546424de80e529636ed2",
    ),
}
MINIO = {
    "amd64": Download(
        f"{RELEASES}/minio/minio/releases/download/RELEASE.2025-09-07T16-13-09Z/minio.linux-amd64.RELEASE.2025-09-07T16-13-09Z",
        "7c5bd8512c6e966455b1d198209358b2d191c77a83ab377c4073281065fb855f",
    ),
    "arm64": Download(
        f"{RELEASES}/minio/minio/releases/download/RELEASE.2025-09-07T16-13-09Z/minio.linux-arm64.RELEASE.2025-09-07T16-13-09Z",
        "5c83cd2cf151717ba0243f73e1c7802ff36e272b67144bdd7f1f7d684fd6f03d",
    ),
}
#: The last commit of the archived repository (2026-02-12), as the Go module proxy names it.
SOURCE = Build("v0.0.0-20260212201848-7aac2a2c5b7c")


def source(config: MinioSection, facts: Facts) -> Download | Build:
    """Where the program comes from: an address of the user's own goes before the named distributions."""
    if config.url is not None:
        assert config.sha256 is not None
        return Download(config.url, config.sha256)
    if config.distribution == "source":
        return SOURCE
    return {"silo": SILO, "minio": MINIO}[config.distribution][facts.architecture]


def resources(
    config: MinioSection, credentials: Credentials, facts: Facts, to: Connections, adopting: Adopting, *, presigned: bool = False
) -> tuple[Resource, ...]:
    """The whole list, in order; for an external store only the bucket, and what is used of the store tried in it."""
    bucket = Bucket(to.store, config.bucket, BucketState(config.bucket), holds_data=True)
    store = topology.store(config)
    if isinstance(store, ExternalStore):
        return in_phase(Phase.DATA, bucket, StoreFeatures(to.store, config.bucket, presigned, wanted(store.endpoint, presigned=presigned)))
    program = source(config, facts)
    folder = f"{STORE}/{program.version.replace(' ', '-')}"
    group, account = facts.group_of(config.user), service_accounts.drop_in("minio.service", config.user, "minio", facts)
    files = (
        _secret("root-user", Secret(credentials.minio_root_user), config.user, group),
        _secret("root-password", credentials.minio_root_password, config.user, group),
        File(f"{ETC}/minio.env", FileState(Text(_settings(config)), Mode(0o644), "root", "root")),
        File(UNIT, FileState(Text(read("units/minio.service")), Mode(0o644), "root", "root")),
        File(f"{UNIT}.d/mlflow-onprem.conf", FileState(Text(_drop_in(config)), Mode(0o644), "root", "root")),
    )
    less = kernel.drop_in("minio.service", facts)
    return (
        *in_phase(
            Phase.BUILD,
            service_accounts.user(config.user, "/var/lib/minio", facts),
            Directory(STORE, DirectoryState(Mode(0o755), "root", "root")),
            PinnedBinary(folder, "minio", program, BinaryState(program.version)),
        ),
        *in_phase(
            Phase.DATA,
            Symlink(f"{STORE}/current", SymlinkState(folder.rpartition("/")[2])),
            *adopting.store,
            *(service_accounts.hand_over(path, config.user, "minio.service", facts) for path in store.folders),
            *(
                Directory(path, DirectoryState(service_accounts.data_mode(config.user, facts), config.user, group), holds_data=True)
                for path in store.folders
            ),
            *(Way(path, config.user) for path in store.folders),
            Directory(f"{ETC}/minio", DirectoryState(Mode(0o750), "root", group)),
            Directory(f"{UNIT}.d", DirectoryState(Mode(0o755), "root", "root"), shared=True),
            *files,
            less,
            account,
            Service(
                "minio.service",
                ServiceState(enabled=True, active=True, inputs=digest((*files, *service_accounts.wanted(less, account)), [program.version])),
                to.systemd,
                paths=(*(file.path for file in (*files, less, account)), f"{folder}/manifest.json"),
                # It says that it is ready before it has loaded its access keys, and refuses them for a moment.
                settled=lambda: _knows_key(config, credentials, to),
                ports=(config.port, config.console_port),
            ),
            StoreFeatures(to.store, None, True, wanted(program.version, presigned=False)),
            bucket,
            *_founded(config),
            *_access_keys(config, credentials, to),
        ),
    )


def missing_data(host: Host, config: MinioSection) -> tuple[str, ...]:
    """Folders that held this store's objects and hold none now: their disk is not mounted, or they were emptied. None before the first start.

    Raises NotVisible where this user may not look.
    """
    folders = topology.store(config).folders
    if not folders or host.stat(FOUNDED) is None:
        return ()
    return () if any(host.stat(_format(folder)) is not None for folder in folders) else folders


def _founded(config: MinioSection) -> tuple[Resource, ...]:
    text = "".join(f"{folder}\n" for folder in topology.store(config).folders)
    return (File(FOUNDED, FileState(Text(text), Mode(0o644), "root", "root"), holds_data=True),) if text else ()


def _format(folder: str) -> str:
    """What MinIO and Silo write into each of their folders first."""
    return f"{folder}/.minio.sys/format.json"


def _knows_key(config: MinioSection, credentials: Credentials, to: Connections) -> bool:
    try:
        return to.store.key_works(credentials.s3_access_key, credentials.s3_secret_key, config.bucket)
    except (StoreUnreachable, StoreRefused):
        return False


def _access_keys(config: MinioSection, credentials: Credentials, to: Connections) -> tuple[Resource, ...]:
    """The key in use; during a rotation the other generation's beside it, until that one is withdrawn."""

    def key(of: Credentials, *, wanted: bool = True) -> AccessKey:
        state = AccessKeyState(policy_text(bucket_policy(config.bucket)), of.s3_secret_key)
        return AccessKey(to.store, of.s3_access_key, config.bucket, state if wanted else None)

    rotation = credentials.rotation
    if rotation is None or rotation.other.s3_access_key == credentials.s3_access_key:
        return (key(credentials),)
    return (key(credentials), key(rotation.other, wanted=rotation.stage in (Stage.PENDING, Stage.CURRENT)))


def _secret(name: str, value: Secret, owner: str, group: str) -> File:
    return File(f"{ETC}/minio/{name}", FileState(value, Mode(0o600), owner, group))


def _settings(config: MinioSection) -> str:
    bind, console = (f"[{each}]" if ":" in each else each for each in (config.bind, config.console_bind))
    lines = [
        "# Written by mlflow-onprem from [minio] of config.toml. No secret stands here.",
        f"MINIO_ROOT_USER_FILE={ETC}/minio/root-user",
        f"MINIO_ROOT_PASSWORD_FILE={ETC}/minio/root-password",
        f'MINIO_OPTS="--address {bind}:{config.port} --console-address {console}:{config.console_port}"',
        f'MINIO_VOLUMES="{" ".join(config.volumes) or config.data_dir}"',
        f"MINIO_REGION={config.region}",
        "MINIO_UPDATE=off",
        "HOME=/var/lib/minio",
    ]
    if config.public_url:
        lines.append(f"MINIO_SERVER_URL={config.public_url}")
    return "\n".join(lines) + "\n"


def _drop_in(config: MinioSection) -> str:
    folders = topology.store(config).folders
    lines = ["# Written by mlflow-onprem: what an EnvironmentFile cannot say."]
    if folders:
        # On a folder whose disk is not mounted the store would found itself anew, empty, and take new objects there.
        lines += ["[Unit]", f"RequiresMountsFor={' '.join(folders)}", f"AssertPathExists=|!{FOUNDED}"]
        lines += [f"AssertPathExists=|{_format(folder)}" for folder in folders]
    lines += ["[Service]", f"ReadWritePaths={' '.join(folders)}"]
    alone = all(ipaddress.ip_address(each).is_loopback for each in (config.bind, config.console_bind))
    if alone and not any("://" in each for each in config.volumes):
        lines += ["# Bound to this host alone, it talks to this host alone.", "IPAddressDeny=any", "IPAddressAllow=localhost"]
    return "\n".join(lines) + "\n"
