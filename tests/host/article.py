"""A host as the article leaves it: store, database and MLflow by hand, everything as root, everything open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow_onprem_sandbox import Sandbox
from uv import find_uv_bin

from tests.host import steps

BUCKET = "mlflow"
OLD_MLFLOW = ("mlflow==3.9.0", "psycopg2-binary", "boto3", "sqlalchemy<2.1", "setuptools<81")
PASSWORD = "password"
MINIO_UNIT = """\
[Unit]
Description=MinIO
After=network-online.target

[Service]
User=root
Group=root
Environment=MINIO_ROOT_USER=minioadmin
Environment=MINIO_ROOT_PASSWORD=minioadmin
ExecStart=/usr/local/bin/minio server --address :9000 --console-address :9001 /opt/minio/data
Restart=always
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""
#: The article's last step, typed into a terminal.
START = f"""\
cd /root
export AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000
nohup /opt/mlflow/bin/mlflow server --host 0.0.0.0 --port 5000 --backend-store-uri postgresql://mlflow_user:{PASSWORD}@127.0.0.1:5432/mlflow \\
    --default-artifact-root s3://{BUCKET}/ >/root/mlflow.log 2>&1 </dev/null &
"""
WORK = Path(__file__).with_name("article_work.py")
ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9000",
    "AWS_ACCESS_KEY_ID": "minioadmin",
    "AWS_SECRET_ACCESS_KEY": "minioadmin",
    "GIT_PYTHON_REFRESH": "quiet",
}


def build(server: Sandbox, store: Path) -> None:
    """The article's steps up to the one that is typed into a terminal each time; what it forgets (a bucket, a driver) is added."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    server.run(["apt-get", "-qq", "update"], timeout=300)
    server.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "python3-venv", "postgresql"], env=quiet, timeout=900)
    server.push(store, "/usr/local/bin/minio")
    server.run(["chmod", "0755", "/usr/local/bin/minio"])
    server.run(["mkdir", "-p", "/opt/minio/data"])
    server.write("/etc/systemd/system/minio.service", MINIO_UNIT)
    server.run(["systemctl", "daemon-reload"])
    server.run(["systemctl", "enable", "--now", "minio"])
    cluster = server.run(["sh", "-c", "echo /etc/postgresql/*/main"]).out.strip()
    server.run(["sed", "-i", "s/^#listen_addresses = .*/listen_addresses = '*'/", f"{cluster}/postgresql.conf"])
    server.run(["sh", "-c", f"echo 'host    all             all             0.0.0.0/0               md5' >> {cluster}/pg_hba.conf"])
    server.run(["systemctl", "restart", "postgresql"])
    steps.until(lambda: server.run(["pg_isready"], ok=steps.ANY).code == 0, "PostgreSQL serves")
    steps.psql(server, "CREATE DATABASE mlflow")
    steps.psql(server, f"CREATE USER mlflow_user WITH ENCRYPTED PASSWORD '{PASSWORD}'")
    steps.psql(server, "GRANT ALL PRIVILEGES ON DATABASE mlflow TO mlflow_user")
    steps.psql(server, "GRANT ALL ON SCHEMA public TO mlflow_user", "mlflow")
    server.push(Path(find_uv_bin()), "/usr/local/bin/uv")
    server.run(["/usr/local/bin/uv", "venv", "--quiet", "--python", "/usr/bin/python3", "/opt/mlflow"])
    server.run(["/usr/local/bin/uv", "pip", "install", "--quiet", "--python", "/opt/mlflow/bin/python", *OLD_MLFLOW], timeout=900)
    server.run(["rm", "/usr/local/bin/uv"])
    make = f"import boto3; boto3.client('s3', endpoint_url='http://127.0.0.1:9000').create_bucket(Bucket='{BUCKET}')"
    server.run(["/opt/mlflow/bin/python", "-c", make], env=ENVIRONMENT)


def start(server: Sandbox) -> None:
    """MLflow in a terminal that is closed then."""
    server.run(["bash", "-c", START])
    ask = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=2)"
    steps.until(lambda: server.run(["/opt/mlflow/bin/python", "-c", ask], ok=steps.ANY).code == 0, "the article's MLflow serves", 120)


def work(server: Sandbox) -> list[dict[str, Any]]:
    """Log what people would have logged by then; what is known of each run."""
    server.push(WORK, "/root/work.py")
    answer: list[dict[str, Any]] = json.loads(
        server.run(["/opt/mlflow/bin/python", "/root/work.py"], env=ENVIRONMENT, timeout=600).out.splitlines()[-1]
    )
    return answer
