"""What is asked of every store: objects, ranges, names, listings, deletion of many, parts, checksums, and that keys count."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any
from xml.sax.saxutils import escape

from mlflow_onprem.clients.store_contract.trial import Feature, Trial, answered, must, read, refused
from mlflow_onprem.core.secret import Secret

#: The smallest part that S3 takes, but for the last one.
PART = 5 << 20
NAMES = ("plain.txt", "two words.txt", "100% + & = ?.txt", "é あ.txt", "a#b.txt", "~tilde'quote.txt")


def put(trial: Trial, name: str, content: bytes) -> str:
    """Store an object in the trial's folder and return its name."""
    key = trial.key(name)
    trial.client.put_object(trial.bucket, key, io.BytesIO(content), len(content))
    return key


def _objects(trial: Trial) -> None:
    for name, content in (("object", bytes(range(256)) * 40), ("empty", b""), ("object", b"written again")):
        key = put(trial, name, content)
        must(read(trial.client, trial.bucket, key) == content, "an object comes back with other bytes")
        found = trial.client.stat_object(trial.bucket, key)
        must(found.size == len(content), f"an object of {len(content)} bytes is told to have {found.size}")
        must(found.last_modified is not None and bool(found.etag), "an object has no time or no ETag")
    trial.client.remove_object(trial.bucket, key)
    answered(trial.request("HEAD", key), 404)


def _ranges(trial: Trial) -> None:
    content = bytes(range(200))
    key = put(trial, "range", content)
    for header, first, last in (("bytes=10-19", 10, 19), ("bytes=190-", 190, 199), ("bytes=-5", 195, 199)):
        answer = trial.request("GET", key, headers={"Range": header})
        answered(answer, 206)
        must(answer.data == content[first : last + 1], f"`Range: {header}` brings other bytes")
        must(answer.headers.get("Content-Range") == f"bytes {first}-{last}/200", f"`Range: {header}` has a wrong Content-Range")
    answered(trial.request("GET", key, headers={"Range": "bytes=500-600"}), 416)


def _missing(trial: Trial) -> None:
    answer = trial.request("GET", trial.key("never-there"))
    answered(answer, 404)
    must(b"NoSuchKey" in answer.data, "a missing object is not answered with the code NoSuchKey")


def _names(trial: Trial) -> None:
    for name in NAMES:
        key = put(trial, f"names/{name}", name.encode())
        must(read(trial.client, trial.bucket, key) == name.encode(), f"an object of the name {name!r} comes back with other bytes")
    listed = {each.object_name for each in trial.client.list_objects(trial.bucket, prefix=trial.key("names/"))}
    wrong = {trial.key(f"names/{name}") for name in NAMES} ^ listed
    must(not wrong, f"a listing tells other names than were stored: {sorted(str(each) for each in wrong)[:2]}")


def _listing(trial: Trial) -> None:
    names = ("list/a/1", "list/a/2", "list/b/3", "list/c", "list/d")
    keys = [put(trial, name, b"x") for name in names]
    flat = [each.object_name for each in trial.client.list_objects(trial.bucket, prefix=trial.key("list/"), recursive=True)]
    must(flat == keys, "a listing of everything below a folder is incomplete or out of order")
    level = [each.object_name for each in trial.client.list_objects(trial.bucket, prefix=trial.key("list/"))]
    must(
        sorted(map(str, level)) == [trial.key(f"list/{each}") for each in ("a/", "b/", "c", "d")], "a listing of one folder does not tell its folders"
    )
    must(_in_pages(trial) == keys, "a listing in pages leaves objects out or tells some twice")


def _in_pages(trial: Trial) -> list[str]:
    from minio.datatypes import parse_list_objects

    found: list[str] = []
    token: str | None = None
    for _ in range(6):
        parameters = {"list-type": "2", "max-keys": "2", "prefix": trial.key("list/"), **({"continuation-token": token} if token else {})}
        answer = trial.request("GET", query=_query(parameters))
        answered(answer, 200)
        objects, more, token, _marker = parse_list_objects(answer)
        found += [str(each.object_name) for each in objects]
        if not more:
            break
    return found


def _query(parameters: dict[str, str]) -> str:
    from urllib.parse import quote

    return "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in sorted(parameters.items()))


def _delete_many(trial: Trial) -> None:
    from minio.deleteobjects import DeleteObject

    keys = [put(trial, f"delete/{number}", b"x") for number in range(4)]
    failed = list(trial.client.remove_objects(trial.bucket, [DeleteObject(each) for each in (*keys[:2], trial.key("delete/never-there"))]))
    must(not failed, f"{failed[0].code}: {failed[0].message}" if failed else "")
    # As boto3 does it, in gc: with a checksum in the place of the old Content-MD5.
    body = "".join(f"<Object><Key>{escape(each)}</Key></Object>" for each in keys[2:])
    content = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>{body}</Delete>'.encode()
    headers = {"x-amz-checksum-crc32": crc32(content), "x-amz-sdk-checksum-algorithm": "CRC32", "Content-Type": "application/xml"}
    answered(trial.request("POST", query="delete=", headers=headers, body=content), 200)
    left = [each.object_name for each in trial.client.list_objects(trial.bucket, prefix=trial.key("delete/"), recursive=True)]
    must(not left, "objects that were deleted are still listed")


def _parts(trial: Trial) -> None:
    first, second = b"a" * PART, b"the last part"
    key = trial.key("parts")
    upload = start_parts(trial, key)
    tags = [_part(trial, key, upload, number, content) for number, content in ((1, first), (2, second))]
    answered(trial.request("HEAD", key), 404)
    finish_parts(trial, key, upload, tags)
    found = trial.client.stat_object(trial.bucket, key)
    must(found.size == PART + len(second), f"an object of two parts has {found.size} bytes, {PART + len(second)} were sent")
    must(read(trial.client, trial.bucket, key, offset=PART - 2, length=5) == b"aathe", "an object of two parts comes back with other bytes")
    key = trial.key("parts-given-up")
    upload = start_parts(trial, key)
    _part(trial, key, upload, 1, second)
    answered(trial.request("DELETE", key, query=_query({"uploadId": upload})), 204, 200)
    answered(trial.request("HEAD", key), 404)


def start_parts(trial: Trial, key: str) -> str:
    """Begin an object of several parts and return the store's word for it."""
    answer = trial.request("POST", key, query="uploads=")
    answered(answer, 200)
    upload = answer.data.decode().partition("<UploadId>")[2].partition("</UploadId>")[0]
    must(bool(upload), "an upload in parts gets no UploadId")
    return str(upload)


def _part(trial: Trial, key: str, upload: str, number: int, content: bytes) -> str:
    answer = trial.request("PUT", key, query=_query({"partNumber": str(number), "uploadId": upload}), body=content)
    answered(answer, 200)
    return str(answer.headers.get("ETag", ""))


def finish_parts(trial: Trial, key: str, upload: str, tags: list[str]) -> None:
    """Make one object of the parts that were sent."""
    rows = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>" for number, tag in enumerate(tags, 1))
    answer = trial.request(
        "POST", key, query=_query({"uploadId": upload}), body=f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    )
    answered(answer, 200)
    must(b"<Error>" not in answer.data, "an upload in parts ends with an error")


def crc32(content: bytes) -> str:
    """As S3 writes it."""
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def _checksums(trial: Trial) -> None:
    content = b"with a checksum, as boto3 sends it by default"
    key = trial.key("checksum")
    answered(_with_checksum(trial, key, content, crc32(content)), 200)
    must(read(trial.client, trial.bucket, key) == content, "an object that was sent with a checksum comes back with other bytes")


def _with_checksum(trial: Trial, key: str, content: bytes, checksum: str) -> Any:
    """Over http it stands before the content, over https behind it."""
    if not trial.store.endpoint.startswith("https:"):
        headers = {"x-amz-checksum-crc32": checksum, "x-amz-sdk-checksum-algorithm": "CRC32"}
        return trial.request("PUT", key, headers=headers, body=content)
    body = f"{len(content):x}\r\n".encode() + content + f"\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(content)),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm": "CRC32",
    }
    return trial.request("PUT", key, headers=headers, body=body, sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER")


def _wrong_checksums(trial: Trial) -> None:
    key = trial.key("wrong-checksum")
    answer = _with_checksum(trial, key, b"damaged on its way", crc32(b"something else"))
    must(answer.status == 400, f"it answers {answer.status} to content whose checksum is wrong")
    answered(trial.request("HEAD", key), 404)


def _keys_count(trial: Trial) -> None:
    key = put(trial, "secret", b"not for everybody")
    access_key, _ = trial.store.keys()
    wrong = trial.store.client(access_key, Secret("not-the-secret-of-this-key"))
    refused(lambda: read(wrong, trial.bucket, key), "it lets somebody in who does not know the secret key")
    answer = trial.store.http().request("GET", f"{trial.store.endpoint.rstrip('/')}/{trial.bucket}/{key}")
    must(answer.status in (401, 403), f"it answers {answer.status} to somebody without any key")


OBJECTS = (
    Feature("objects", "artifacts are stored, read, replaced and deleted", _objects),
    Feature("ranges", "a part of a large artifact is read, interrupted downloads go on", _ranges),
    Feature("missing objects", "an artifact that is not there is told from a store that fails", _missing),
    Feature("names", "artifacts keep the names that people give them", _names),
    Feature("listing", "artifacts of a run are shown, backed up and cleaned up", _listing),
    Feature("deletion of many objects", "gc and uninstall", _delete_many),
    Feature("multipart uploads", "artifacts of more than 8 MiB", _parts),
    Feature("checksums", "uploads by AWS's own client", _checksums),
    Feature("wrong checksums are refused", "an upload that was damaged on its way is noticed", _wrong_checksums, fatal=False),
    Feature("keys are checked", "nobody reads artifacts without a key", _keys_count),
)
