"""URLs that let a client get at one object without a key (`artifacts = "presigned"`)."""

from __future__ import annotations

from datetime import timedelta

from mlflow_onprem.clients.store_contract.objects import finish_parts, put, start_parts
from mlflow_onprem.clients.store_contract.trial import Feature, Trial, answered, must, read

LIFE = timedelta(minutes=5)


def _downloads(trial: Trial) -> None:
    content = b"by a URL"
    key = put(trial, "presigned", content)
    url = trial.client.get_presigned_url("GET", trial.bucket, key, expires=LIFE)
    answer = trial.store.http().request("GET", url)
    answered(answer, 200)
    must(answer.data == content, "a presigned URL brings other bytes")
    answer = trial.store.http().request("GET", url, headers={"Range": "bytes=3-"})
    answered(answer, 206)
    answer = trial.store.http().request("GET", url.replace(key.rpartition("/")[2], "range"))
    must(answer.status in (401, 403), f"a URL that was signed for another object is answered with {answer.status}")


def _uploads(trial: Trial) -> None:
    key = trial.key("presigned-parts")
    upload = start_parts(trial, key)
    url = trial.client.get_presigned_url("PUT", trial.bucket, key, expires=LIFE, extra_query_params={"partNumber": "1", "uploadId": upload})
    answer = trial.store.http().request("PUT", url, body=b"a part by a URL")
    answered(answer, 200)
    finish_parts(trial, key, upload, [str(answer.headers.get("ETag", ""))])
    must(read(trial.client, trial.bucket, key) == b"a part by a URL", "what was sent by a presigned URL comes back with other bytes")


PRESIGNED = (
    Feature("presigned downloads", 'clients fetch artifacts from the store themselves (artifacts = "presigned")', _downloads),
    Feature("presigned uploads in parts", 'clients send artifacts to the store themselves (artifacts = "presigned")', _uploads),
)
