"""Backup, proof, restore and prune on real hosts; killed at every step, with a full disk, while clients write; seen through MLflow's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from mlflow_onprem.core.host import Result
from mlflow_onprem.system.local_host import LocalHost
from tests.host import steps
from tests.host.clients import variables
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
HERE = Path(__file__).parent
KILLED = 128 + 9
REPOSITORY = "/var/backups/mlflow-onprem"
PYTHON = "/opt/mlflow-onprem/environments/current/bin/python"
PASSWORD = "a password for Alice 1"


def client(server: Sandbox, *task: str) -> Any:
    """One task of backup_client.py."""
    server.push(HERE / "backup_client.py", "/root/backup_client.py")
    environment = {**variables(server), "GIT_PYTHON_REFRESH": "quiet"}
    return json.loads(server.run([PYTHON, "/root/backup_client.py", *task], env=environment, timeout=300).out.splitlines()[-1])


def command(server: Sandbox, *words: str, ok: Any = (0,)) -> dict[str, Any]:
    """A command's JSON."""
    answer: dict[str, Any] = json.loads(server.run(["mlflow-onprem", *words, "--json"], timeout=900, ok=ok).out)
    return answer


def driven(server: Sandbox, how: str, points: str, *words: str) -> Result:
    """The same with backup_driver.py in it."""
    server.push(HERE / "backup_driver.py", "/root/backup_driver.py")
    argv = ["sh", "-c", '"$@"; exit $?', "sh", "/opt/mlflow-onprem/cli/bin/python", "/root/backup_driver.py", how, points, *words]
    return server.run(argv, timeout=900, ok=steps.ANY)


def listed(server: Sandbox) -> list[str]:
    """IDs of whole backups."""
    return [each["id"] for each in command(server, "backup", "list")["backups"]]


def lets_in(server: Sandbox, username: str, password: str) -> bool:
    """Whether MLflow takes the account."""
    url = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/get?experiment_id=0"
    script = f"import requests; print(requests.get({url!r}, auth=({username!r}, {password!r})).status_code)"
    return server.run(["/opt/mlflow-onprem/cli/bin/python", "-c", script]).out.strip() != "401"


def databases(server: Sandbox) -> set[str]:
    return set(steps.psql(server, "SELECT datname FROM pg_database WHERE NOT datistemplate").split())


def free_of_leftovers(server: Sandbox) -> None:
    """Nothing but the stack is left: no second databases, no journal, no opened secrets, nothing for install to do."""
    assert databases(server) == {"postgres", "mlflow", "mlflow_auth"}
    left = server.run(["find", "/var/lib/mlflow-onprem/restore", "/var/lib/mlflow-onprem/backup", "-type", "f"], ok=(0, 1)).out
    assert left == ""
    assert steps.plan(server)[1]["changes"] == []
    assert steps.status(server)[0] == 0


@pytest.fixture
def server(host: HostFactory) -> tuple[Sandbox, str, Any]:
    """A host with runs and an account, the ID of its backup, and what a client saw then; afterwards more was written and something lost."""
    made = host()
    steps.install(made)  # its address may be another than the layer was made with
    client(made, "write", "6", "2000")
    made.run(["mlflow-onprem", "user", "add", "alice"], stdin=f"{PASSWORD}\n")
    before = client(made, "read")
    backup = command(made, "backup", "create")["id"]
    return made, backup, before


def ruin(server: Sandbox) -> Any:
    """More runs, a deleted account, an overwritten and a deleted artifact; returns what a client sees then."""
    key, other = stored_objects(server)[:2]
    client(server, "write", "2", "500")
    server.run(["mlflow-onprem", "user", "remove", "alice"])
    store(server, "put", key)
    store(server, "remove", other)
    return client(server, "read")


def store(server: Sandbox, what: str, key: str) -> None:
    """Write nonsense over an object or remove it, behind MLflow's back."""
    call = {"put": "c.put_object('mlflow', key, io.BytesIO(b'nonsense'), 8)", "remove": "c.remove_object('mlflow', key)"}[what]
    store_script(server, f"import io; key = {key!r}; {call}")


def stored_objects(server: Sandbox) -> list[str]:
    """Keys of the bucket."""
    return store_script(server, "print('\\n'.join(o.object_name for o in c.list_objects('mlflow', recursive=True)))").splitlines()


def store_script(server: Sandbox, text: str, address: str = "127.0.0.1:9000") -> str:
    """A statement with `c`, the store's administrator."""
    begin = "import json; from minio import Minio; s = json.load(open('/etc/mlflow-onprem/credentials.json')); "
    connect = f"c = Minio(endpoint={address!r}, access_key=s['minio_root_user'], secret_key=s['minio_root_password'], secure=False); "
    return server.run(["/opt/mlflow-onprem/cli/bin/python", "-c", begin + connect + text]).out


def test_restored_onto_its_own_host_and_back_again(server: tuple[Sandbox, str, Any]) -> None:
    """All as it was at the backup, accounts included; what was there in between is one command away."""
    made, backup, before = server
    between = ruin(made)
    answer = command(made, "restore", backup)
    assert client(made, "read") == before
    assert lets_in(made, "alice", PASSWORD)
    # Only what was overwritten and removed was copied.
    assert answer["copied_objects"] == 2
    free_of_leftovers(made)
    assert listed(made) == [backup, answer["rescue"]]
    command(made, "restore", answer["rescue"])
    # The object that somebody had removed has come back with the first restore and stays: no row says that it should not be there.
    again = client(made, "read")
    assert again["runs"].keys() == between["runs"].keys()
    assert all(again["runs"][run][4].items() >= between["runs"][run][4].items() for run in between["runs"])
    assert not lets_in(made, "alice", PASSWORD)


def test_a_bare_host_becomes_the_old_one_from_another_store(
    host: HostFactory, bootstrapped: Layer, server: tuple[Sandbox, str, Any], config: str, store: Path
) -> None:
    """Backed up encrypted to another host's store; a new machine with nothing but the backup, the store's keys and the passphrase is the old host."""
    made, _, before = server
    offsite = host(hostname="offsite")
    steps.install(offsite, config + 'bind = "0.0.0.0"\n')
    store_script(offsite, "c.make_bucket('offsite')")
    root = json.loads(offsite.read("/etc/mlflow-onprem/credentials.json"))
    keys = f"[default]\naws_access_key_id = {root['minio_root_user']}\naws_secret_access_key = {root['minio_root_password']}\n"
    keys += f"endpoint_url = http://{offsite.address}:9000\n"
    place = ("--from", "s3://offsite/stack", "--credentials-file", "/root/keys")
    made.write("/root/keys", keys, mode=0o600)
    made.write("/root/passphrase", "correct horse battery staple\n", mode=0o600)
    refused = made.run(["mlflow-onprem", "backup", "create", *place], ok=(2,))
    assert "encrypted" in refused.err
    backup = command(made, "backup", "create", *place, "--passphrase-file", "/root/passphrase")
    assert (backup["objects"]["new_count"], backup["encryption"]) == (12, "passphrase")
    again = command(made, "backup", "create", *place, "--passphrase-file", "/root/passphrase")
    assert again["objects"]["new_count"] == 0
    # Nothing secret lies there in the clear.
    text = store_script(
        offsite, "print(b''.join(c.get_object('offsite', o.object_name).read() for o in c.list_objects('offsite', 'stack/backups/', True)))"
    )
    credentials = json.loads(made.read("/etc/mlflow-onprem/credentials.json"))
    assert not [name for name, value in credentials.items() if isinstance(value, str) and len(value) > 8 and value in text]
    made.destroy()

    bare = host(bootstrapped, hostname="reborn")
    product.configure(bare, config, store)
    bare.run(["rm", "-f", product.CONFIG])
    bare.write("/root/keys", keys, mode=0o600)
    bare.write("/root/wrong", "wrong horse\n", mode=0o600)
    bare.write("/root/passphrase", "correct horse battery staple\n", mode=0o600)
    wrong = bare.run(["mlflow-onprem", "restore", backup["id"], *place, "--passphrase-file", "/root/wrong"], ok=(2,))
    assert "does not open" in wrong.err
    assert bare.run(["ls", "/etc/mlflow-onprem"], ok=(0, 2)).out == ""
    command(bare, "restore", backup["id"], *place, "--passphrase-file", "/root/passphrase")
    assert client(bare, "read") == before
    assert lets_in(bare, "alice", PASSWORD)
    free_of_leftovers(bare)


def test_backup_killed_at_every_step(server: tuple[Sandbox, str, Any]) -> None:
    """An unfinished one is never listed and harms nothing; the next run clears it away and goes on."""
    made, first, before = server
    client(made, "write", "2", "3000")
    kills = 0
    while (result := driven(made, "kill", "/root/points", "backup", "create", "--json")).code == KILLED:
        kills += 1
        assert kills < 60
        last = made.read("/root/points").decode().splitlines()[-1]
        if last not in ("file manifest.json", "backup: publish"):
            assert listed(made) == [first], f"killed at {last}"
    assert result.code == 0, result.err
    points = made.read("/root/points").decode().splitlines()
    print(f"{kills} kills: {points}")
    wanted = {
        "object into the pool",
        "file mlflow.dump",
        "file manifest.json",
        *(f"backup: {name}" for name in ("tidy", "copy_before", "dump", "pack", "publish")),
    }
    assert set(points) >= wanted
    # Killed with its manifest in place, a backup is whole; those, and the last one, all hold.
    for backup in listed(made):
        assert command(made, "backup", "verify", backup)["damaged"] == []
    assert len(listed(made)) == 4
    assert client(made, "read")["runs"].items() >= before["runs"].items()
    free_of_leftovers(made)
    command(made, "restore", first)
    assert client(made, "read") == before


@pytest.mark.long
def test_restore_killed_at_every_step(server: tuple[Sandbox, str, Any]) -> None:
    """At any moment there is an old or a new database of each name; run again, it is finished, and the backup of what was there is taken once."""
    made, backup, before = server
    ruin(made)
    kills = 0
    while (result := driven(made, "kill", "/root/points", "restore", backup, "--json")).code == KILLED:
        kills += 1
        assert kills < 80
        assert databases(made) >= {"mlflow", "mlflow_auth"}
    assert result.code == 0, result.err
    points = made.read("/root/points").decode().splitlines()
    print(f"{kills} kills: {points}")
    assert {f"restore: {name}" for name in ("rescue", "copy_objects", "restore_databases", "bring_secrets", "serve", "finish")} <= set(points)
    assert {"object into the bucket", "sql ALTER DATABASE mlflow mlflow_before", "sql COMMIT "} <= set(points)
    assert client(made, "read") == before
    assert lets_in(made, "alice", PASSWORD)
    free_of_leftovers(made)


def test_an_unhealthy_restore_puts_back_what_was_there(server: tuple[Sandbox, str, Any]) -> None:
    """The restored stack does not come up: everything is as it was before, and the command says so."""
    made, backup, _ = server
    before = ruin(made)
    result = driven(made, "once", "/root/points", "restore", backup)
    assert result.code == 4
    assert "this host is as it was before" in result.err
    again = client(made, "read")
    assert again["runs"].keys() == before["runs"].keys()
    assert all(again["runs"][run][4].items() >= before["runs"][run][4].items() for run in before["runs"])
    assert not lets_in(made, "alice", PASSWORD)
    free_of_leftovers(made)


@pytest.mark.long
def test_putting_back_killed_at_every_step(server: tuple[Sandbox, str, Any]) -> None:
    """Undoing is finished by the same command, or by naming the backup of what was there."""
    made, backup, _ = server
    before = ruin(made)
    kills = 0
    while (result := driven(made, "unhealthy", "/root/points", "restore", backup, "--json")).code == KILLED:
        kills += 1
        assert kills < 120
        assert databases(made) >= {"mlflow", "mlflow_auth"}
    assert result.code == 0, result.err
    assert json.loads(result.out)["undone"] is True
    points = made.read("/root/points").decode().splitlines()
    print(f"{kills} kills")
    assert {"restore: secrets_back", "restore: databases_back", "restore: objects_back"} <= set(points)
    assert client(made, "read")["runs"].keys() == before["runs"].keys()
    free_of_leftovers(made)


def test_a_full_disk_is_told_and_harms_nothing(server: tuple[Sandbox, str, Any]) -> None:
    """No space for the copy: refused before it begins; no room for another file in the middle of it: told, and not listed."""
    made, first, before = server
    made.run(["mkdir", "-p", "/mnt/small"])
    made.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/mnt/small"])
    refused = made.run(["mlflow-onprem", "backup", "create", "--to", "/mnt/small/b"], ok=(1,))
    assert "GB free" in refused.err
    made.run(["mount", "-o", "remount,size=600m,nr_inodes=9", "/mnt/small"])
    full = made.run(["mlflow-onprem", "backup", "create", "--to", "/mnt/small/b"], ok=(1,))
    assert "No space left" in full.err
    assert "the disk is full" in full.err
    assert command(made, "backup", "list", "--from", "/mnt/small/b")["backups"] == []
    # No room for the dump on this host's own disk.
    made.run(["mount", "--mkdir", "-t", "tmpfs", "-o", "size=100k", "tmpfs", "/var/lib/mlflow-onprem/backup"], ok=(0, 1, 32))
    assert listed(made) == [first]
    assert client(made, "read") == before
    assert steps.status(made)[0] == 0


def test_backup_while_clients_write_and_delete(server: tuple[Sandbox, str, Any]) -> None:
    """Clients go on; every run of the restored host has the artifacts it had, the ones that finished before the backup began all of theirs."""
    made, _, before = server
    environment = {**variables(made), "GIT_PYTHON_REFRESH": "quiet"}
    writing = made.popen([PYTHON, "/root/backup_client.py", "write", "25", "200000"], env=environment)
    backup = command(made, "backup", "create")["id"]
    out, err = writing.communicate(timeout=300)
    assert writing.returncode == 0, err
    written = set(json.loads(out.splitlines()[-1]))
    live = client(made, "read")
    command(made, "restore", backup)
    seen = client(made, "read")
    assert seen["runs"].items() >= before["runs"].items()
    for run, (_, _, _, _, artifacts) in seen["runs"].items():
        assert artifacts == live["runs"][run][4], "restore removes no object that is there"
    print(f"{len(seen['runs'].keys() & written)} of {len(written)} runs were in the backup")


def test_damage_is_found_and_healed_by_the_next_backup(server: tuple[Sandbox, str, Any]) -> None:
    """A flipped byte in the pool: verify fails and names the object, and the next backup copies it again."""
    made, backup, _ = server
    # What others wrote since the last backup is in this one, so that the next copies what was damaged and nothing else.
    command(made, "backup", "create")
    sizes = made.run(["find", f"{REPOSITORY}/objects", "-type", "f", "-printf", "%s %p\\n"]).out.splitlines()
    largest = max(sizes, key=lambda line: int(line.split()[0])).split()[1]
    content = bytearray(made.read(largest))
    content[0] ^= 1
    made.write(largest, bytes(content), mode=0o600)
    result = made.run(["mlflow-onprem", "backup", "verify", backup], ok=(1,))
    assert "weights.bin" in result.out
    assert command(made, "backup", "create")["objects"]["new_count"] == 1
    assert command(made, "backup", "verify", backup)["damaged"] == []


def test_prune_and_the_timer(server: tuple[Sandbox, str, Any]) -> None:
    """The schedule's units are in place, make a backup and keep to the rules; without a schedule they are gone."""
    made, first, _ = server
    config = made.read(product.CONFIG).decode()
    made.write(product.CONFIG, f'{config}\n[backup]\nschedule = "*-*-* 04:00"\nkeep_daily = 1\nkeep_weekly = 0\nkeep_monthly = 0\n')
    steps.install(made)
    assert steps.plan(made)[1]["changes"] == []
    assert "04:00" in steps.show(made, "mlflow-onprem-backup.timer", "TimersCalendar")["TimersCalendar"]
    made.run(["systemctl", "start", "mlflow-onprem-backup.service"], timeout=120)
    assert len(listed(made)) == 1
    assert listed(made) != [first]
    made.write(product.CONFIG, config)
    steps.install(made)
    assert made.run(["find", "/etc/systemd/system", "-name", "mlflow-onprem-backup*"]).out == ""


@pytest.mark.long  # not seen green since the modules moved
def test_proven_by_a_restore_in_a_disposable_host(server: tuple[Sandbox, str, Any], config: str, tmp_path: Path) -> None:
    """`verify --boot`, run on this machine on the host's repository: proven, and shown as such."""
    made, backup, _ = server
    from mlflow_onprem.backup import boot, verify
    from mlflow_onprem.backup.encryption import Keys
    from mlflow_onprem.backup.repository import Folder
    from mlflow_onprem.settings.config_file import load

    place = str(made.spec.root / REPOSITORY.lstrip("/"))
    (tmp_path / "config.toml").write_text(config)
    here = LocalHost()
    repository = Folder(here, place)
    settings = load(str(tmp_path / "config.toml"), {}).config
    verified = verify.verify(here, repository, backup)
    source = boot.Source(place, {})
    proven = verify.prove(here, repository, verified, lambda each: boot.boot(here, repository, each, Keys(), source, settings))
    assert proven.proof is not None
    assert (proven.proof.runs, proven.proof.artifacts) == (6, 12)
    assert command(made, "backup", "list")["backups"][0]["proven"]["rows"] == proven.proof.rows
