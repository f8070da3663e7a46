"""The host under the stack: secrets' files, drift, clock, disk, tables, versions, units."""

from __future__ import annotations

import email.utils
import re
import socket
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from mlflow_onprem.core.engine import Plan
from mlflow_onprem.core.errors import CommandFailed, OnPremError, Refused
from mlflow_onprem.core.finding import Finding, error, ok, warning
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import compare
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.files import File
from mlflow_onprem.resources.schema import Schema, SchemaState
from mlflow_onprem.resources.store_features import tolerated
from mlflow_onprem.settings.config import MinioSection
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import disk_space, kernel
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.apt import candidate

#: Older ones have holes that need no account (facts: CVE-2026-116690, CVE-2026-116692).
MLFLOW_FLOOR = (3, 17, 0)
#: The first Silo release with the fixes for CVE-2026-97731 and this year's others; MinIO itself gets none any more.
STORE_FLOOR = "2026-09-16"
DISK_WARN, DISK_BAD = 85, 95  # per cent used
SKEW = 60.0  # seconds; S3 refuses signatures that are 15 minutes off
INSTALL = "sudo mlflow-onprem install"


def secret_files(host: Host, assembly: Assembly) -> Finding:
    """Each file with a secret in it belongs to its one reader, and nobody else may look into it."""
    wrong = []
    files = [each for each in assembly.stack if isinstance(each, File) and each.want is not None and isinstance(each.want.content, Secret)]
    for each in files:
        assert each.want is not None
        found = host.stat(each.path)
        if found is None:
            wrong.append(f"{each.path} is missing")
        elif (found.kind, found.mode, found.owner, found.group) != ("file", each.want.mode.value, each.want.owner, each.want.group):
            now, right = f"{found.mode:04o} {found.owner}:{found.group}", f"{each.want.mode} {each.want.owner}:{each.want.group}"
            wrong.append(f"{each.path} is {now} instead of {right}")
    if wrong:
        return error("secret files", "; ".join(wrong), "other accounts of this host may read or replace a password, or a service cannot", INSTALL)
    return ok("secret files", f"{len(files)} files with secrets are readable by their own service alone")


def drift(plan: Plan) -> Finding:
    """Whether the host still is as install left it."""
    if not plan.changes:
        return ok("drift", f"all {plan.unchanged} resources are as install left them")
    names = ", ".join(each.resource for each in plan.changes[:5]) + (f" and {len(plan.changes) - 5} more" if len(plan.changes) > 5 else "")
    return warning(
        "drift",
        f"not as install left it: {names}",
        "it was changed by hand, the configuration was changed and not installed, or the host itself changed (memory, address)",
        "see it with `sudo mlflow-onprem plan`, fix it with `sudo mlflow-onprem install`",
    )


def client_address(uri: str, remarks: list[str]) -> Finding:
    """Whether the address that clients are told can work: its name must lead somewhere."""
    why = "clients that are told this address do not get through"
    if remarks:
        return warning("client address", f"clients are told {uri}: {remarks[0]}", why, "unless that is what you want, change it as said")
    name = urlsplit(uri).hostname or ""
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError):
        return warning(
            "client address",
            f"clients are told {uri}, and the name {name} is not known here",
            why + ", unless their own name server knows it",
            f"enter {name} into DNS, or put a name that clients know first in hosts in [mlflow] of /etc/mlflow-onprem/config.toml, then {INSTALL}",
        )
    return ok("client address", f"clients are told {uri}")


def sandboxing(facts: Facts) -> Finding:
    """What the kernel of this host cannot do is left out of the units; that is no secret."""
    if facts.private_users:
        return ok("sandboxing", "the services run with all of their sandboxing")
    return warning("sandboxing", kernel.LESS, "a service that is broken into could act on more of this host", kernel.ON)


def clock(host: Host, dates: Iterable[tuple[str, str | None]]) -> Iterator[Finding]:
    """`dates`: who answered, and the Date header of the answer."""
    try:
        synchronised = host.run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"]).out.strip() == "yes"
    except CommandFailed:
        synchronised = False
    for name, date in dates:
        parsed = email.utils.parsedate_to_datetime(date) if date else None
        if parsed is not None and abs(skew := parsed.timestamp() - time.time()) > SKEW:
            yield error(
                "clock",
                f"this host's clock and that of {name} are {abs(skew):.0f} s apart",
                "S3 refuses requests from 15 minutes on",
                "sudo timedatectl set-ntp true",
            )
            return
    if synchronised:
        yield ok("clock", "synchronised by network time")
    else:
        yield warning(
            "clock",
            "nothing keeps this host's clock right (no NTP synchronisation)",
            "once it is 15 minutes off, the object store refuses every request; run times are wrong before that",
            "sudo apt-get install systemd-timesyncd && sudo timedatectl set-ntp true (or chrony)",
        )


def disk(host: Host, assembly: Assembly) -> Iterator[Finding]:
    """Space and inodes of every filesystem that the stack writes to."""
    config = assembly.config
    fullest = 0
    troubled = False
    why, fix = "a full disk stops uploads first and PostgreSQL next", f"delete runs you no longer need, then {disk_space.HINT}"
    for each in disk_space.of(host, config):
        used, inodes = _percent(each.size - each.free, each.free), _percent(each.inodes - each.free_inodes, each.free_inodes)
        fullest = max(fullest, used, inodes)
        if each.full:
            troubled = True
            yield error("disk", f"the disk is full: {each}", why, fix)
            continue
        for what, value in (("space", used), ("inodes", inodes)):
            if value >= DISK_WARN:
                troubled = True
                left = f"{each.free / 2**30:.1f} GiB left" if what == "space" else f"{each.free_inodes} left"
                make = error if value >= DISK_BAD else warning
                yield make("disk", f"{value} % of the {what} under {each.place} is used, {left}", why, fix)
    if not troubled:
        yield ok("disk", f"space and inodes: at most {fullest} % used")


def tables(host: Host, assembly: Assembly) -> Finding:
    """The database is at the revision that the installed MLflow wants."""
    schema = next(each for each in assembly.stack if isinstance(each, Schema))
    why = "MLflow refuses to start on tables of another version"
    try:
        have = schema.observe(host)
        change = compare(schema, have)
    except OnPremError as failed:
        return error("tables", failed.message, why, INSTALL)
    if change is None:
        assert schema.want is not None
        return ok("tables", f"at the revision that MLflow {assembly.config.mlflow.version} wants ({schema.want.tracking})")
    fix = INSTALL
    try:
        schema.check_may_change(have if isinstance(have, SchemaState) else None)
    except Refused as refused:
        fix = refused.hint
    differing = "; ".join(f"{name} is {each.have}, {each.want} is wanted" for name, each in change.fields.items()) or change.why
    return error("tables", f"the database's tables are not this MLflow's: {differing}", why, fix)


def mlflow_version(running: str, wanted: str) -> Finding:
    """What serves now, against the security floor and against what is configured."""
    floor = ".".join(map(str, MLFLOW_FLOOR))
    if tuple(int(each) for each in re.findall(r"\d+", running)[:3]) < MLFLOW_FLOOR:
        return error(
            "MLflow's version",
            f"MLflow {running} serves; before {floor} it has holes that are used in the wild",
            "files of this host can be read and code be run without an account",
            "take `version` out of [mlflow] in /etc/mlflow-onprem/config.toml, then `sudo mlflow-onprem upgrade`",
        )
    if running != wanted:
        return warning(
            "MLflow's version",
            f"MLflow {running} serves, {wanted} is configured",
            "an upgrade was not made, or not finished",
            "sudo mlflow-onprem upgrade",
        )
    return ok("MLflow's version", f"{running}, at or above {floor}")


def store_version(version: str, config: MinioSection) -> Finding:
    """The object store's own word on its version: RELEASE.2026-09-16T00-00-00Z, or anything for a build from source."""
    change = 'take out url and sha256 and set distribution = "silo"' if config.url else 'set distribution = "silo"'
    match = re.search(r"(\d{4}-\d\d-\d\d)T", version)
    if match is not None and match.group(1) >= STORE_FLOOR:
        return ok("object store's version", version)
    return warning(
        "object store's version",
        f"{version or 'unknown'}: MinIO is archived, and its known holes (CVE-2026-97731 and others) are not fixed in it",
        "whoever may write one object may read all; as long as only this host reaches the store, MLflow stands before it",
        f"{change} in [minio] of /etc/mlflow-onprem/config.toml (the data stays), then `sudo mlflow-onprem install`",
    )


def store_features(host: Host) -> Finding:
    """What install found when it tried everything that is used of the object store."""
    lacks = tolerated(host)
    if lacks is None:
        return warning("object store's features", "they were not tried yet", "a store that lacks one fails when it is needed", INSTALL)
    if not lacks:
        return ok("object store's features", "everything that is used of it was tried at install, and works")
    what = "; ".join(f"{feature}: {seen}" for feature, _, seen in lacks)
    why = "; ".join(needed_for for _, needed_for, _ in lacks)
    return warning(
        "object store's features", f"it lacks {what}", f"needed for: {why}", "works without it; another store (or a newer release of it) may have it"
    )


def postgres_version(host: Host, version: int) -> Finding:
    """Whether apt knows a newer minor release than the one installed."""
    package = f"postgresql-{version}"
    installed = host.run(["dpkg-query", "-W", "-f", "${Version}", package], ok=(0, 1)).out.strip()
    offered = candidate(host, package)
    if installed and offered and installed != offered and not host.run(["dpkg", "--compare-versions", installed, "lt", offered], ok=(0, 1)).code:
        return warning(
            "PostgreSQL's version",
            f"{installed} is installed, {offered} is offered",
            "minor releases fix vulnerabilities and data loss",
            f"sudo apt-get install --only-upgrade {package}",
        )
    return ok("PostgreSQL's version", installed or "not from a package")


def units(host: Host, assembly: Assembly) -> Iterator[Finding]:
    """Failed units; ours are in the way of the stack, others are somebody's to look at."""
    ours = assembly.units
    failed = [
        line.split()[0] for line in host.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).out.splitlines() if line.strip()
    ]
    for each in failed:
        if each in ours:
            yield error("units", f"{each} has failed", "it does not serve", f"journalctl -u {each} -n 50; then {INSTALL}")
        else:
            yield warning(
                "units", f"{each} has failed", "it is not part of this stack; it may be what the stack stands on", f"systemctl status {each}"
            )
    if not failed:
        yield ok("units", "no unit has failed")


def _percent(used: int, free: int) -> int:
    return -(-used * 100 // (used + free)) if used + free else 0
