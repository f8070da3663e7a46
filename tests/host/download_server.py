"""What only the server can do in the tests of downloads; runs there in MLflow's environment and prints JSON.

`download_server.py encode PREFIX` stores the objects below anew with a Content-Encoding, as MLflow's own code does. `download_server.py large MIB`
sends an artifact of that size up and down, and says what memory (MiB, PSS of the service) and temporary files (bytes) that took.
"""

import base64
import http.client
import json
import mimetypes
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import boto3


def encode(prefix: str) -> dict[str, object]:
    """Every object that MLflow guesses an encoding for."""
    client: Any = boto3.client("s3", endpoint_url="http://127.0.0.1:9000", region_name="us-east-1")
    encoded = []
    for each in client.list_objects_v2(Bucket="mlflow", Prefix=prefix)["Contents"]:
        guessed = mimetypes.guess_type(each["Key"])[1]
        answer = client.get_object(Bucket="mlflow", Key=each["Key"])
        assert "ContentEncoding" not in answer, each["Key"]
        if guessed:
            client.put_object(Bucket="mlflow", Key=each["Key"], Body=answer["Body"].read(), ContentEncoding=guessed)
            encoded.append(each["Key"])
    return {"encoded": len(encoded)}


def large(account: str, mib: int) -> dict[str, object]:
    """One artifact of so many MiB."""
    headers = {"Authorization": "Basic " + base64.b64encode(account.encode()).decode(), "Content-Length": str(mib << 20)}
    path, most, before, ended = "/api/2.0/mlflow-artifacts/artifacts/0/large/artifacts/large.bin", [0, 0], _pss(), threading.Event()
    connection = http.client.HTTPConnection("127.0.0.1", 5000, timeout=300)
    connection.request("PUT", path, (bytes(1 << 20) for _ in range(mib)), headers)
    assert connection.getresponse().read() == b""

    def watch() -> None:
        while not ended.wait(0.2):
            most[:] = [max(most[0], _pss()), max(most[1], _spooled())]

    watcher = threading.Thread(target=watch)
    watcher.start()
    connection.request("GET", path, headers={"Authorization": headers["Authorization"]})
    answer, received = connection.getresponse(), 0
    while chunk := answer.read(1 << 20):
        received += len(chunk)
    ended.set()
    watcher.join()
    return {"status": answer.status, "received": received, "grown": most[0] - before, "spooled": most[1]}


def _pss() -> int:
    group = subprocess.run(["systemctl", "show", "--value", "--property=ControlGroup", "mlflow"], check=True, capture_output=True, text=True)
    pids = Path(f"/sys/fs/cgroup{group.stdout.strip()}/cgroup.procs").read_text().split()
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:")) >> 10


def _spooled() -> int:
    files = [path for path in Path("/var/tmp").glob("systemd-private-*-mlflow.service-*/tmp/**/*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


if __name__ == "__main__":
    print(json.dumps(encode(sys.argv[2]) if sys.argv[1] == "encode" else large(sys.stdin.read().strip(), int(sys.argv[2]))))
