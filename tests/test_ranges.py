"""Which bytes of an object a request asks for."""

from __future__ import annotations

import pytest
from mlflow_onprem_server.ranges import Portion, portion

TAG, DATE = '"abc"', "Wed, 25 Nov 2026 20:00:00 GMT"


@pytest.mark.parametrize(
    ("asked", "size", "given"),
    [
        ("", 10, Portion(200, 0, 10)),
        ("bytes=0-0", 10, Portion(206, 0, 1)),
        ("bytes=0-", 10, Portion(206, 0, 10)),
        ("bytes=3-99", 10, Portion(206, 3, 10)),
        ("bytes=-3", 10, Portion(206, 7, 10)),
        ("bytes=-99", 10, Portion(206, 0, 10)),
        ("bytes=-0", 10, Portion(416, 0, 0)),
        ("bytes=10-", 10, Portion(416, 0, 0)),
        ("bytes=0-0", 0, Portion(416, 0, 0)),
        ("bytes=5-3", 10, Portion(200, 0, 10)),
        ("bytes=-", 10, Portion(200, 0, 10)),
        ("bytes=0-1,3-4", 10, Portion(200, 0, 10)),
        ("lines=0-1", 10, Portion(200, 0, 10)),
        ("bytes=zero-one", 10, Portion(200, 0, 10)),
    ],
)
def test_ranges(asked: str, size: int, given: Portion) -> None:
    assert portion({"range": asked}, size, TAG, DATE) == given


def test_a_part_is_sent_only_of_the_object_that_the_client_knows() -> None:
    for same in (TAG, DATE):
        assert portion({"range": "bytes=1-2", "if-range": same}, 10, TAG, DATE).status == 206
    assert portion({"range": "bytes=1-2", "if-range": '"other"'}, 10, TAG, DATE) == Portion(200, 0, 10)


def test_what_the_client_has_is_not_sent_again() -> None:
    for known in (TAG, '"x", W/"abc"', "*"):
        assert portion({"if-none-match": known, "range": "bytes=0-1"}, 10, TAG, DATE).status == 304
    assert portion({"if-none-match": '"x"', "if-modified-since": DATE}, 10, TAG, DATE).status == 200
    assert portion({"if-modified-since": DATE}, 10, TAG, DATE).status == 304
    assert portion({"if-modified-since": "Wed, 25 Nov 2026 19:00:00 GMT"}, 10, TAG, DATE).status == 200
    assert portion({"if-modified-since": "yesterday"}, 10, TAG, DATE).status == 200
