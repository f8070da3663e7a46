"""The file with every secret: generated once, read back, refused when damaged."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest

from mlflow_onprem.core.errors import NotVisible, OnPremError
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import credentials
from tests.fake_machine import CREDENTIALS
from tests.fakes import FakeHost


def test_what_is_written_is_what_is_read() -> None:
    generated = credentials.generate()
    assert credentials.parse(credentials.serialize(generated).reveal()) == generated
    host = FakeHost()
    host.put(credentials.PATH, credentials.serialize(CREDENTIALS).reveal(), 0o600)
    assert credentials.load_or_generate(host) == CREDENTIALS


def test_invented_values_are_long_all_different_and_fit_where_they_go() -> None:
    one, other = credentials.generate(), credentials.generate()
    secrets = [value.reveal() for each in (one, other) for value in vars(each).values() if isinstance(value, Secret)]
    assert len(set(secrets)) == len(secrets) == 14
    assert all(len(value) >= 24 for value in secrets)
    assert len(base64.urlsafe_b64decode(one.webhook_key.reveal())) == 32
    assert all(value.isalnum() for value in (one.minio_root_password.reveal(), one.s3_secret_key.reveal(), one.postgres_password.reveal()))
    assert 3 <= len(one.s3_access_key) <= 20


def test_a_host_without_the_file_gets_new_values_that_are_written_nowhere_yet() -> None:
    host = FakeHost()
    assert credentials.load_or_generate(host) != credentials.load_or_generate(host)
    assert host.acts == 0


@pytest.mark.parametrize("change", ["", "not json", "[]", "{}", "null", '"text"', "lacking", "empty", "number"])
def test_a_damaged_file_is_refused_without_its_content(change: str) -> None:
    values = json.loads(credentials.serialize(CREDENTIALS).reveal())
    if change == "lacking":
        del values["webhook_key"]
    elif change == "empty":
        values["kek_passphrase"] = ""
    elif change == "number":
        values["postgres_password"] = 5
    text = json.dumps(values) if change in ("lacking", "empty", "number") else change
    with pytest.raises(OnPremError, match="is damaged") as caught:
        credentials.parse(text)
    assert "backup" in caught.value.hint
    assert "CANARY" not in f"{caught.value} {caught.value.hint} {caught.value.output}"
    assert ("webhook_key" in caught.value.message) == (change in ("lacking", "{}", "[]", '"text"'))


def test_the_file_is_roots_alone_and_kept_by_uninstall() -> None:
    file = credentials.resource(CREDENTIALS)
    assert file.want is not None
    assert (str(file.want.mode), file.want.owner, file.want.group, file.holds_data) == ("0600", "root", "root", True)
    assert isinstance(file.want.content, Secret)
    with pytest.raises(NotVisible):
        credentials.load_or_generate(FakeHost(is_root=False, deny={"/etc/mlflow-onprem"}))


def test_every_field_of_the_file_is_text_or_secret() -> None:
    kinds = {each.name: each.type for each in dataclasses.fields(credentials.Credentials)}
    assert {name for name, kind in kinds.items() if kind == "str"} == {"minio_root_user", "s3_access_key", "mlflow_admin"}
