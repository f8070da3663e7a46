"""What a host is, as far as the lists of resources depend on it. Read once, without changing anything."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_onprem.core.errors import CommandFailed, NotVisible, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system import accounts, clusters, host_addresses, pythons
from mlflow_onprem.system.accounts import Account
from mlflow_onprem.system.clusters import Cluster
from mlflow_onprem.system.exit_status import no_user_namespaces

#: PostgreSQL of each distribution release.
DISTRIBUTION_POSTGRES = {"jammy": 14, "noble": 16, "bookworm": 15, "trixie": 17}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LOCKS = "/etc/mlflow-onprem/locks"
CLUSTER_NOTE = "/var/lib/mlflow-onprem/postgres-cluster"
#: What the kernel of this host cannot do is left out of our units by these.
KERNEL_DROP_INS = tuple(f"/etc/systemd/system/{unit}.service.d/mlflow-onprem-kernel.conf" for unit in ("minio", "mlflow"))
#: Accounts and groups that Debian's packages make and leave behind when they are purged.
PACKAGE_ACCOUNTS = ("postgres", "ssl-cert")
#: The services' accounts where the configuration names no others, and the homes that those have which we make.
ACCOUNTS = ("minio", "mlflow")
HOMES = ("/var/lib/minio", "/var/lib/mlflow")
#: Accounts of our names that were here before us, a line each: uninstall leaves them.
USERS_NOTE = "/var/lib/mlflow-onprem/users-before"


@dataclass(frozen=True)
class Facts:
    """One host. Memory is in bytes; `python` is a path, or "apt" or "uv" where the interpreter is still to come.

    `private_users`: user namespaces can be made here, which PrivateUsers in our units needs.
    `cluster` is the one to use, there or still to be made (None: the usual one of `postgres_version`). `postgres_shared` is True where it was
    there before us: then its settings are not ours. `postgres_made` is True where there was none and we made it.
    `python_why`: one line where "auto" took another than 3.11.
    `locks` are requirement sets of the administrator's own: (version of MLflow, hash-locked text).
    """

    architecture: str
    codename: str
    names: tuple[str, ...]
    cores: int
    memory: int
    python: str
    postgres_version: int
    postgres_shared: bool
    cluster: Cluster | None = None
    postgres_made: bool = False
    users_before: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    locks: tuple[tuple[str, str], ...] = ()
    private_users: bool = True
    python_version: str = pythons.PREFERRED
    python_why: str = ""

    def group_of(self, user: str) -> str:
        """The first group of a service's account; one that we make has a group of its own name."""
        return next((each.group for each in self.accounts if each.name == user), user)

    def is_local(self, user: str) -> bool:
        """Whether a service's account is this host's own, not a directory's."""
        return all(each.local for each in self.accounts if each.name == user)


def gather(host: Host, config: Config) -> Facts:
    """Look at the host. Raises Refused for a machine this cannot work on."""
    release = parse_os_release((host.read("/etc/os-release") or b"").decode())
    codename = release.get("VERSION_CODENAME", "")
    machine = host.run(["uname", "-m"]).out.strip()
    if machine not in ARCHITECTURES:
        raise Refused(f"this machine is {machine}; x86_64 and aarch64 are supported")
    chosen = choose(host, config)
    interpreter = pythons.choose(host, config.mlflow.python)
    users = (config.minio.user, config.mlflow.user)
    memory = parse_meminfo((host.read("/proc/meminfo") or b"").decode())
    found = tuple(each for each in (accounts.look(host, name) for name in users) if each is not None)
    cores = len(re.findall(rb"^processor\s*:", host.read("/proc/cpuinfo") or b"", re.MULTILINE)) or 1
    return Facts(
        architecture=ARCHITECTURES[machine],
        codename=codename,
        names=_names(host),
        cores=cores,
        memory=memory,
        python=interpreter.source,
        postgres_version=chosen.cluster.version,
        postgres_shared=chosen.shared,
        cluster=chosen.cluster,
        postgres_made=chosen.made,
        users_before=_users_before(host, users, found),
        accounts=found,
        locks=own_locks(host),
        private_users=private_users(host),
        python_version=interpreter.version,
        python_why=interpreter.why,
    )


def private_users(host: Host) -> bool:
    """Whether the kernel (and a container around this host) lets us make a user namespace.

    Only root can try, and not from our own timers' services, whose sandboxing forbids it to them alone: there it is as install found it.
    """
    if no_user_namespaces(host):
        return False
    if not host.is_root or b"\nNoNewPrivs:\t1" in (host.read("/proc/self/status") or b""):
        return all(host.stat(path) is None for path in KERNEL_DROP_INS)
    try:
        return host.run(["unshare", "--user", "--map-root-user", "true"], ok=(0, 1)).code == 0
    except CommandFailed:  # no such program: systemd will say
        return True


def own_locks(host: Host) -> tuple[tuple[str, str], ...]:
    """Locks on this host beside those of the program: /etc/mlflow-onprem/locks/mlflow-VERSION.txt."""
    found = []
    for name in host.listdir(LOCKS):
        version = name.removeprefix("mlflow-").removesuffix(".txt")
        if name == f"mlflow-{version}.txt" and (text := host.read(f"{LOCKS}/{name}")) is not None:
            found.append((version, text.decode()))
    return tuple(found)


def _users_before(host: Host, users: tuple[str, ...], found: tuple[Account, ...]) -> tuple[str, ...]:
    """Those of the note, and those named since: a directory's, and others that do not have the home of one that we made."""
    note = host.read(USERS_NOTE)
    if note is not None:
        named_since = {each.name for each in found if not each.local or (each.name not in ACCOUNTS and each.home not in HOMES)}
        before = {*note.decode().split(), *named_since}
    else:
        groups = {name for name in (*users, *PACKAGE_ACCOUNTS) if accounts.look_group(host, name) is not None}
        before = {each.name for each in found} | groups | {name for name in PACKAGE_ACCOUNTS if accounts.look(host, name) is not None}
    order = (*users, *ACCOUNTS, *PACKAGE_ACCOUNTS)
    return tuple(sorted(before, key=lambda name: (order.index(name) if name in order else len(order), name)))


@dataclass(frozen=True)
class Chosen:
    """Which cluster is ours to use, whether it was there before us, and whether we made it."""

    cluster: Cluster
    shared: bool
    made: bool


def choose(host: Host, config: Config) -> Chosen:
    """The cluster that an earlier run noted; on a new host the one on our port, whatever its name; otherwise one that is still to be made.

    A cluster on another port is somebody else's: it keeps its port, its settings and its name, and ours gets another name. Raises Refused.
    """
    wanted, port = config.postgres.version, config.postgres.port
    there = [each for each in clusters.every(host) if wanted is None or each.version == wanted]
    word, label, made = _note(host)
    if word:
        # The name stays through PostgreSQL's own major upgrade. Both may name our port, in our file, which is copied: the old one, kept beside
        # the new one, is the one that does not start by itself any more.
        own = [each for each in there if each.name == (label.partition("/")[2] or "main")]
        own.sort(
            key=lambda each: (each.port == port, each.start == "auto", each.label == label, host.stat(each.settings) is not None, each.version),
            reverse=True,
        )
        if own:
            return Chosen(own[0], word == "shared", made)
    found = next((each for each in there if each.port == port), None)
    if found is not None:
        return Chosen(found, shared=True, made=False)
    release = parse_os_release((host.read("/etc/os-release") or b"").decode())
    version = wanted or DISTRIBUTION_POSTGRES.get(release.get("VERSION_CODENAME", ""))
    if version is None:
        raise Refused(f"this is {release.get('PRETTY_NAME', 'an unknown system')}; Ubuntu 22.04 and 24.04, Debian 12 and 13 are supported")
    taken = {each.name for each in there if each.version == version}
    before = label.partition("/")[2] if word == "ours" else ""
    new = clusters.planned(version, before or ("mlflow" if "main" in taken else "main"), port)
    # Data without a configuration were there before us, unless our own note says otherwise.
    left = _is_there(host, f"{new.data}/PG_VERSION")
    return Chosen(new, shared=left and word != "ours", made=made if left else True)


def _note(host: Host) -> tuple[str, str, bool]:
    """What an earlier run noted of its cluster: ours or shared, its label, and whether it made it; before it kept labels there was only `main`."""
    words = (host.read(CLUSTER_NOTE) or b"").decode().split()
    return (words[0] if words else ""), (words[1] if len(words) > 1 else ""), "made" in words[2:]


def _is_there(host: Host, path: str) -> bool:
    try:
        return host.stat(path) is not None
    except NotVisible:
        return False


def _names(host: Host) -> tuple[str, ...]:
    """What clients may call this host: its host name first, what /etc/hosts and the searched domains add, then its addresses, the best first."""
    name = socket.gethostname().rstrip(".")
    short = name.partition(".")[0]
    own = {name.lower(), short.lower()}
    others: list[str] = []
    for line in (host.read("/etc/hosts") or b"").decode(errors="replace").splitlines():
        fields = line.partition("#")[0].split()
        if own & {field.lower() for field in fields[1:]}:
            others += fields[1:]
    for line in (host.read("/etc/resolv.conf") or b"").decode(errors="replace").splitlines():
        fields = line.partition("#")[0].split()
        if fields and fields[0] in ("search", "domain"):
            others += [f"{short}.{field.strip('.')}" for field in fields[1:] if field.strip(".")]
    names = dict.fromkeys((name, *others, short))
    return (*(each for each in names if not each.startswith("localhost") or each == name), *host_addresses.of_host(host))


def parse_os_release(text: str) -> Mapping[str, str]:
    """/etc/os-release as a mapping."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip().strip("\"'") for key, _, value in pairs}


def parse_meminfo(text: str) -> int:
    """Total memory in bytes from /proc/meminfo."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0
