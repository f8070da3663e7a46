"""What backups are made of, without a host: repositories, the walk over objects, keeping, encryption, what `status` is told."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlflow_onprem.backup import catalog, database, encryption, manifest, objects, passphrase, render, summary, verify
from mlflow_onprem.backup.bucket import Bucket
from mlflow_onprem.backup.choice import Choice
from mlflow_onprem.backup.encryption import Keys, Opener, Sealer
from mlflow_onprem.backup.location import open_repository
from mlflow_onprem.backup.manifest import FilePart, Manifest, ObjectsPart, Proof
from mlflow_onprem.backup.objects import Entry, Tally
from mlflow_onprem.backup.repository import Folder, Missing, Repository, pieces, pool_name
from mlflow_onprem.backup.retention import kept
from mlflow_onprem.core.errors import ConfigError, OnPremError, Refused
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings.config import BackupSection, Config
from mlflow_onprem.settings.config_file import load
from mlflow_onprem.system.local_host import LocalHost

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
REPOSITORY = "/var/backups/test"


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    return LocalHost(tmp_path)


@pytest.fixture
def repository(host: LocalHost) -> Folder:
    return Folder(host, REPOSITORY)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def store(repository: Folder, content: bytes) -> str:
    return repository.store(pieces(iter([content])), len(content))


def entry(key: str, content: bytes = b"x", modified: str = "2026-01-01") -> Entry:
    return Entry(key, sha(content)[:8], len(content), modified, sha256=sha(content))


def made(backup_id: str, created: datetime, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "format": 1, "id": backup_id, "created": created, "seconds": 1.0, "host": "server", "codename": "bookworm", "made_by": "0.1.0",
        "mlflow": "3.17.2", "lock": "l", "python": "3.11", "object_store": "o", "postgres": 15, "bucket": "mlflow", "artifacts": "proxied",
        "databases": {"mlflow": "mlflow"}, "revisions": {"mlflow": "r"}, "encryption": "none",
        "objects": ObjectsPart(count=1, bytes=1, new_count=1, new_bytes=1), "files": {},
    }  # fmt: skip
    return Manifest(**{**values, **changes})


def put_backup(host: LocalHost, repository: Folder, found: Manifest, contents: list[bytes]) -> Manifest:
    """A backup with these objects, as `create` leaves one."""
    place = host.local("/scratch")
    place.parent.mkdir(exist_ok=True)
    objects.write_index(place, [entry(f"{number}", content) for number, content in enumerate(contents)])
    for content in contents:
        store(repository, content)
    found = found.model_copy(update={"files": {"objects.jsonl.gz": FilePart(size=place.stat().st_size, sha256=sha(place.read_bytes()))}})
    repository.put(manifest.name(found.id, "objects.jsonl.gz"), place)
    place.write_text(found.model_dump_json())
    repository.put(manifest.name(found.id, manifest.MANIFEST), place)
    place.unlink()
    return found


# which backups stay -----------------------------------------------------------------------------------------------------


def days(*ages: float, proven: tuple[float, ...] = ()) -> list[tuple[str, datetime, bool]]:
    return [(f"{age}", NOW - timedelta(days=age), age in proven) for age in ages]


@pytest.mark.parametrize(
    ("backups", "rules", "wanted"),
    [
        (days(0, 1, 2, 3, 4), (3, 0, 0), {"0", "1", "2"}),
        (days(0, 0.1, 0.2), (3, 0, 0), {"0"}),
        (days(0, 30, 31, 60), (1, 0, 3), {"0", "30", "60"}),
        (days(0, 7, 14, 21), (1, 2, 0), {"0", "7"}),
        (days(400, 500), (1, 0, 0), {"400"}),
        (days(0, 1, 2, proven=(2,)), (1, 0, 0), {"0", "2"}),
        ([], (7, 4, 6), set()),
    ],
    ids=["days", "newest of a day", "months", "weeks", "the newest however old", "the newest proven", "none"],
)
def test_keeps_the_newest_of_each_period(backups: list[tuple[str, datetime, bool]], rules: tuple[int, int, int], wanted: set[str]) -> None:
    assert kept(backups, *rules) == wanted
    assert kept(reversed(backups), *rules) == wanted


# the walk over objects ---------------------------------------------------------------------------------------------------


def walk(
    listed: list[Entry], known: list[Entry], *, keep_missing: bool = False, gone: str = "", damaged: str = ""
) -> tuple[list[str], list[str], Tally]:
    """Keys in the index, keys copied, and the tally."""
    copied: list[str] = []

    def copy(each: Entry) -> Entry | None:
        copied.append(each.key)
        return None if each.key == gone else each

    tally = Tally()
    index = list(objects.sweep(listed, known, copy, tally, keep_missing=keep_missing, damaged=frozenset({damaged} if damaged else ())))
    return [each.key for each in index], sorted(copied), tally


def test_unchanged_objects_cost_a_listing_only() -> None:
    same = [entry(f"k{number:03}") for number in range(100)]
    keys, copied, tally = walk(same, same)
    assert (len(keys), copied, tally.new_bytes, tally.bytes) == (100, [], 0, 100)


def test_new_and_changed_objects_are_copied_in_the_order_of_keys() -> None:
    known = [entry("b"), entry("c", b"old"), entry("e")]
    keys, copied, _ = walk([entry("a"), entry("b"), entry("c", b"new"), entry("d")], known)
    assert (keys, copied) == (["a", "b", "c", "d"], ["a", "c", "d"])


def test_a_touched_object_is_read_again() -> None:
    _, copied, _ = walk([entry("a", modified="2026-02-02")], [entry("a")])
    assert copied == ["a"]


def test_the_second_pass_keeps_what_was_deleted_since_the_first() -> None:
    keys, _, tally = walk([entry("b")], [entry("a"), entry("b"), entry("c")], keep_missing=True)
    assert (keys, tally.vanished) == (["a", "b", "c"], [])


def test_an_object_that_vanishes_under_the_second_pass_is_told() -> None:
    keys, _, tally = walk([entry("a"), entry("b")], [entry("a")], keep_missing=True, gone="b")
    assert (keys, tally.vanished) == (["a"], ["b"])
    # What was copied before it was overwritten and deleted is better than nothing, and counts as there.
    keys, _, tally = walk([entry("a", b"new")], [entry("a")], keep_missing=True, gone="a")
    assert (keys, tally.vanished) == (["a"], [])


def test_damaged_content_is_copied_again() -> None:
    _, copied, _ = walk([entry("a", b"1"), entry("b", b"2")], [entry("a", b"1"), entry("b", b"2")], damaged=sha(b"2"))
    assert copied == ["b"]


def test_a_listing_out_of_order_costs_copies_and_loses_nothing() -> None:
    listed = [entry("a"), entry("c"), entry("b")]
    keys, copied, _ = walk(listed, [entry("a"), entry("b"), entry("c")])
    assert sorted(keys) == ["a", "b", "c"]
    assert copied == ["b"]


def test_a_failing_copy_ends_the_walk() -> None:
    def fail(_: Entry) -> Entry | None:
        raise OnPremError("the disk is full")

    with pytest.raises(OnPremError, match="full"):
        list(objects.sweep([entry(f"{number:03}") for number in range(500)], [], fail, Tally(), keep_missing=False))


def test_an_index_is_what_was_written(tmp_path: Path) -> None:
    entries = [Entry("1/ü +.txt", "e", 3, "m", "v", sha(b"abc"), "text/plain"), Entry("2", "e", 0, "m")]
    objects.write_index(tmp_path / "index", entries)
    assert list(objects.read_index(tmp_path / "index")) == entries
    first, _ = gzip.decompress((tmp_path / "index").read_bytes()).splitlines()
    assert json.loads(first)["key"] == "1/ü +.txt"


class Store:
    """A bucket that answers one object, `overwritten` since it was listed."""

    def __init__(self, content: bytes, etag: str) -> None:
        self.content, self.etag = content, etag

    def get_object(self, *_: object) -> Any:
        headers = {"Content-Length": str(len(self.content)), "ETag": f'"{self.etag}"', "Content-Type": "text/plain"}
        stream = lambda *_, **__: iter([self.content])  # noqa: E731
        return SimpleNamespace(headers=headers, stream=stream, close=lambda: None, release_conn=lambda: None)


def test_an_object_overwritten_since_it_was_listed_is_looked_at_again_next_time(repository: Folder) -> None:
    bucket = Bucket(cast(Any, Store(b"newer", "new")), "mlflow")
    listed = Entry("key", "old", 3, "2026-01-01")
    copied = bucket.copy_to(repository, listed, lambda _: None)
    assert copied is not None
    assert (copied.sha256, copied.size, copied.type) == (sha(b"newer"), 5, "text/plain")
    assert not copied.same_object(Entry("key", "new", 5, "2026-01-01"))


# a folder of backups -----------------------------------------------------------------------------------------------------


def test_a_folder_keeps_content_once_and_closed(host: LocalHost, repository: Folder) -> None:
    first, second = store(repository, b"same"), store(repository, b"same")
    assert first == second == sha(b"same")
    assert [name for name, _ in repository.names("objects/")] == [pool_name(first)]
    assert b"".join(repository.open(pool_name(first))) == b"same"
    assert host.local(f"{REPOSITORY}/objects").stat().st_mode & 0o077 == 0


def test_what_a_dead_run_left_in_the_pool_is_replaced_and_swept(host: LocalHost, repository: Folder) -> None:
    name = store(repository, b"content")
    path = host.local(f"{REPOSITORY}/{pool_name(name)}")
    path.write_bytes(b"con")  # as a power cut leaves it
    host.local(f"{REPOSITORY}/objects/.new-abc").write_bytes(b"half")
    store(repository, b"content")
    repository.settle()
    assert path.read_bytes() == b"content"
    assert not host.local(f"{REPOSITORY}/objects/.new-abc").exists()


def test_a_missing_file_is_told_as_such(repository: Folder) -> None:
    repository.free()
    assert repository.read("backups/x") is None
    with pytest.raises(Missing, match="backups/x is missing"):
        list(repository.open("backups/x"))


def test_only_whole_backups_are_listed(host: LocalHost, repository: Folder) -> None:
    whole = put_backup(host, repository, made("20261101-000000-0001", NOW), [b"1"])
    put_backup(host, repository, made("20261102-000000-0002", NOW), [b"1"])
    host.local(f"{REPOSITORY}/backups/20261102-000000-0002/manifest.json").unlink()
    newer = put_backup(host, repository, made("20261103-000000-0003", NOW, format=2), [b"1"])
    found = manifest.every(repository)
    assert ([each.id for each in found.whole], found.unfinished, found.unreadable) == ([whole.id], ("20261102-000000-0002",), (newer.id,))
    with pytest.raises(OnPremError, match="newer mlflow-onprem"):
        manifest.read(repository, newer.id)
    with pytest.raises(ConfigError, match="no backup"):
        manifest.read(repository, "../../etc/passwd")


def test_prune_removes_backups_and_only_what_no_other_one_needs(host: LocalHost, repository: Folder) -> None:
    put_backup(host, repository, made("20261001-000000-0001", NOW - timedelta(days=2)), [b"shared", b"of the first"])
    put_backup(host, repository, made("20261101-000000-0002", NOW), [b"shared", b"of the second"])
    rules = BackupSection(keep_daily=1, keep_weekly=0, keep_monthly=0)
    done = catalog.prune(host, repository, rules)
    assert (done.removed, done.kept, done.freed) == (("20261001-000000-0001",), ("20261101-000000-0002",), len(b"of the first"))
    assert {name for name, _ in repository.names("objects/")} == {pool_name(sha(b"shared")), pool_name(sha(b"of the second"))}
    assert catalog.prune(host, repository, rules).removed == ()


def test_prune_touches_nothing_where_a_backup_cannot_be_read(host: LocalHost, repository: Folder) -> None:
    put_backup(host, repository, made("20261001-000000-0001", NOW - timedelta(days=2)), [b"1"])
    put_backup(host, repository, made("20261101-000000-0002", NOW, format=2), [b"2"])
    before = sorted(repository.names(""))
    with pytest.raises(Refused, match="20261101-000000-0002"):
        catalog.prune(host, repository, BackupSection(keep_daily=1, keep_weekly=0, keep_monthly=0))
    assert sorted(repository.names("")) == before


# verify ------------------------------------------------------------------------------------------------------------------


def test_verify_reads_every_byte(host: LocalHost, repository: Folder) -> None:
    found = put_backup(host, repository, made("20261101-000000-0002", NOW), [b"one", b"two"])
    assert verify.verify(host, repository, found.id).damaged == ()
    host.local(f"{REPOSITORY}/{pool_name(sha(b'two'))}").write_bytes(b"tw0")
    host.local(f"{REPOSITORY}/{pool_name(sha(b'one'))}").unlink()
    damaged = verify.verify(host, repository, found.id).damaged
    assert [line.split(":")[0] for line in damaged] == ["object 0", "object 1"]
    # The next backup copies these again, whatever the index says.
    assert json.loads(repository.read("damaged.json") or b"") == sorted([sha(b"one"), sha(b"two")])


def test_a_damaged_backup_is_no_longer_proven_and_not_booted(host: LocalHost, repository: Folder) -> None:
    found = put_backup(host, repository, made("20261101-000000-0002", NOW), [b"one"])
    proof = Proof(when=NOW, seconds=1, tables=1, rows=1, runs=1, artifacts=1, artifact_bytes=3)
    verified = verify.prove(host, repository, verify.verify(host, repository, found.id), lambda _: proof)
    assert verified.proof == manifest.proof(repository, found.id) == proof
    host.local(f"{REPOSITORY}/backups/{found.id}/objects.jsonl.gz").write_bytes(b"")
    verified = verify.verify(host, repository, found.id)
    assert verified.damaged
    assert manifest.proof(repository, found.id) is None
    assert verify.prove(host, repository, verified, lambda _: proof).proof is None


# encryption --------------------------------------------------------------------------------------------------------------


def sealed(tmp_path: Path, keys: Keys) -> tuple[Path, bytes | None]:
    plain = tmp_path / "mlflow.dump"
    plain.write_bytes(b"rows" * 100_000)
    sealer = Sealer(keys)
    closed = sealer.seal(plain)
    assert not plain.exists()
    assert b"rowsrows" not in closed.read_bytes()
    return closed, sealer.header


def test_a_passphrase_opens_what_it_closed(tmp_path: Path) -> None:
    closed, header = sealed(tmp_path, Keys(passphrase=Secret("correct horse")))
    with pytest.raises(ConfigError, match="does not open"):
        Opener("passphrase", Keys(passphrase=Secret("wrong horse")), header).open(closed)
    with pytest.raises(ConfigError, match="passphrase"):
        Opener("passphrase", Keys(), header)
    assert Opener("passphrase", Keys(passphrase=Secret("correct horse")), header).open(closed).read_bytes() == b"rows" * 100_000


def test_an_identity_opens_what_its_recipient_closed(tmp_path: Path) -> None:
    from pyrage import x25519

    pair = x25519.Identity.generate()
    closed, header = sealed(tmp_path, Keys(recipient=str(pair.to_public())))
    assert header is None
    with pytest.raises(ConfigError) as refused:
        Opener("recipient", Keys(), None)
    assert "--identity-file" in refused.value.hint
    keys = Keys(identity=Secret(f"# created: today\n# public key: {pair.to_public()}\n{pair}\n"))
    assert Opener("recipient", keys, None).open(closed).read_bytes() == b"rows" * 100_000
    with pytest.raises(ConfigError, match="recipient"):
        Sealer(Keys(recipient="age1nonsense"))


def test_keys_are_written_as_age_writes_them() -> None:
    from pyrage import x25519

    for _ in range(20):
        pair = x25519.Identity.generate()
        again = x25519.Identity.from_str(passphrase.bech32(passphrase.PREFIX, _key_of(str(pair))).upper())
        assert str(again) == str(pair)


def _key_of(text: str) -> bytes:
    number = 0
    for letter in text.lower().rpartition("1")[2][:-6]:
        number = number << 5 | passphrase.LETTERS.index(letter)
    return (number >> 4).to_bytes(32, "big")


def test_damaged_or_greedy_parameters_are_refused() -> None:
    for parameters in (b"", b"{}", b'{"n": 1073741824, "r": 8, "p": 1, "salt": "00"}'):
        with pytest.raises(OnPremError, match="damaged"):
            passphrase.identity(Secret("x"), parameters)


def test_a_key_file_must_be_closed(host: LocalHost) -> None:
    path = host.local("/key")
    with pytest.raises(ConfigError, match="missing"):
        encryption.read_key(host, "/key")
    path.write_text("secret\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others"):
        encryption.read_key(host, "/key")
    path.chmod(0o600)
    assert encryption.read_key(host, "/key") == Secret("secret")


def test_the_vault_holds_etc_and_the_files_named_and_nothing_left_out(host: LocalHost) -> None:
    for name, text in {"/etc/mlflow-onprem/a/b": "1", "/root/s3": "2", "/etc/mlflow-onprem/phrase": "3"}.items():
        host.local(name).parent.mkdir(parents=True, exist_ok=True)
        host.local(name).write_text(text)
        host.local(name).chmod(0o600)
    encryption.pack(host, host.local("/vault.tar"), ["/root/s3", "/missing"], ["/etc/mlflow-onprem/phrase"])
    assert encryption.unpack(host.local("/vault.tar")) == {"/etc/mlflow-onprem/a/b": (b"1", 0o600), "/root/s3": (b"2", 0o600)}


def test_an_archive_that_reaches_elsewhere_is_refused(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        member = tarfile.TarInfo("etc/../../root/x")
        tar.addfile(member, io.BytesIO())
    with pytest.raises(OnPremError, match="not a plain file"):
        encryption.unpack(tmp_path / "evil.tar")


# databases ---------------------------------------------------------------------------------------------------------------


def test_differences_name_tables_rows_and_contents() -> None:
    wanted = {"a": (1, "1"), "b": (2, "2"), "c": (3, "3"), "d": (4, "4")}
    found = {"a": (1, "1"), "b": (1, "2"), "c": (3, "x"), "e": (0, "0")}
    assert database.differences(wanted, found) == [
        "table b has 1 rows, not 2", "table c has 3 rows with other contents", "table d is missing", "table e is too much",
    ]  # fmt: skip
    assert database.differences(wanted, wanted) == []


class Cluster:
    """PostgreSQL's databases by name; a transaction that is not committed did nothing; `busy` renames fail first."""

    def __init__(self, names: set[str], busy: int = 0) -> None:
        self.names, self.pending, self.busy = names, set(names), busy

    def query(self, _database: str, statement: str, identifiers: Any = None, literals: Any = None) -> list[list[Any]]:
        if "FROM pg_database" in statement:
            return [[1]] if literals["name"] in self.names else []
        if statement == "BEGIN":
            self.pending = set(self.names)
        if statement == "COMMIT":
            self.names = self.pending
        if "RENAME" in statement:
            if self.busy:
                self.busy -= 1
                from mlflow_onprem.clients.sql import SqlError

                raise SqlError("database is being accessed by other users", "55006")
            self.pending = (self.pending - {identifiers["old"]}) | {identifiers["new"]}
        return []

    def close(self) -> None:
        self.pending = set(self.names)


def test_a_database_that_waits_beside_another_old_one_was_not_exchanged(host: LocalHost) -> None:
    assert not database.Server(host, Cluster({"mlflow", "mlflow_before", "mlflow_restored"}), "").exchanged("mlflow")


@pytest.mark.parametrize("busy", [0, 1, 3])
def test_databases_are_exchanged_all_at_once_and_back(host: LocalHost, busy: int) -> None:
    cluster = Cluster({"mlflow", "mlflow_restored", "auth", "auth_restored"}, busy)
    server = database.Server(host, cluster, "")
    assert not server.exchanged("mlflow")
    server.exchange(["mlflow", "auth"])
    assert cluster.names == {"mlflow", "mlflow_before", "auth", "auth_before"}
    assert server.exchanged("mlflow")
    server.exchange(["mlflow", "auth"], back=True)
    assert cluster.names == {"mlflow", "mlflow_restored", "auth", "auth_restored"}
    assert not server.exchanged("mlflow")


# what people are told ----------------------------------------------------------------------------------------------------


def test_status_says_how_old_and_whether_proven(host: LocalHost) -> None:
    host.local("/var/lib/mlflow-onprem").mkdir(parents=True)
    assert "backup create" in summary.line(summary.read(host), NOW)
    old, new = made("20261101-000000-0001", NOW - timedelta(days=3)), made("20261123-000000-0002", NOW - timedelta(hours=5))
    proof = Proof(when=NOW, seconds=1, tables=1, rows=1, runs=1, artifacts=1, artifact_bytes=1)
    lines = []
    for backups in ([(old, None), (new, None)], [(old, proof), (new, None)], [(old, proof), (new, proof)]):
        summary.write(host, "/var/backups", backups)
        lines.append(summary.line(summary.read(host), NOW))
    assert lines == [
        "backups: 2 in /var/backups, the newest 5 hours old, none proven: sudo mlflow-onprem backup verify 20261123-000000-0002 --boot",
        "backups: 2 in /var/backups, the newest 5 hours old; the newest proven one is 3 days old (20261101-000000-0001)",
        "backups: 2 in /var/backups, the newest 5 hours old, proven",
    ]
    body = summary.as_json(summary.read(host), NOW)
    assert (body["count"], body["newest"], body["age_seconds"], body["proven"]) == (2, new.id, 5 * 3600, True)
    none = summary.as_json(None, NOW)
    assert (none["count"], none["newest"], none["proven"]) == (0, None, False)
    assert set(none) == set(body)


def test_the_list_shows_what_is_proven(host: LocalHost, repository: Folder) -> None:
    found = put_backup(host, repository, made("20261101-000000-0002", NOW), [b"one"])
    listed = catalog.listed(repository)
    text = render.listed_text(listed, NOW + timedelta(days=1))
    assert "1 day" in text
    assert f"verify {found.id} --boot" in text
    answer = render.listed_json(listed)
    assert (answer["backups"][0]["id"], answer["backups"][0]["proven"]) == (found.id, None)


# configuration -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('to = "s3://bucket/x"', "credentials_file"),
        ('to = "s3://bucket/x"\ncredentials_file = "/etc/s3"', "encrypted"),
        ('to = "s3://Bucket"', "bucket name"),
        ('to = "backups"', "absolute path"),
        ('to = "/var"', "folder of its own"),
        ('passphrase_file = "/a"\nrecipient = "age1qqqqqqqqqqqqqqqqqqqqqqqq"', "exclude"),
        ('schedule = "daily; rm"', "schedule"),
        ("keep_daily = 0", "keep_daily"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[backup]\n{text}\n")
    with pytest.raises(ConfigError, match=why):
        load(str(path), {})


def test_another_store_needs_its_credentials(host: LocalHost) -> None:
    with pytest.raises(ConfigError, match="credentials"):
        open_repository(host, "s3://bucket/x", None)
    host.local("/s3").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\nendpoint_url = https://s3.example.com\n")
    found: Repository = open_repository(host, "s3://bucket/x", "/s3")
    assert found.address == "s3://bucket/x"


@pytest.mark.parametrize("wrong", ["endpoint_url = http://[", "endpoint_url = http://h:99999"])
def test_another_store_needs_an_address(host: LocalHost, wrong: str) -> None:
    text = f"[default]\naws_access_key_id = k\naws_secret_access_key = secret\n{wrong}\n"
    host.local("/s3").write_text(text)
    with pytest.raises(ConfigError, match="endpoint_url or region is not right"):
        open_repository(host, "s3://bucket/x", "/s3")


@pytest.mark.parametrize("place", ["s3://", "s3:///x", "s3://B/x", "relative", "/"])
def test_what_is_no_place_for_backups(host: LocalHost, place: str) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Choice(place).repository(host, Config())


def test_pieces_are_read_in_any_measure() -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b"abc", b"d", b"efgh")

    source = pieces(chunks())
    assert [source.read(2), source.read(3), source.read(0), source.read(), source.read()] == [b"ab", b"cde", b"", b"fgh", b""]
