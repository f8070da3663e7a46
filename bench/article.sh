#!/bin/sh
# The article's steps on a plain Debian 12 host, with what fails today mended: a virtual environment, psycopg2 named as the driver,
# the database owned by its role, a bucket that exists, systemd instead of a terminal. Its choices (root, minioadmin, four workers, jobs) are kept.
# $1: address of the MinIO binary on a local mirror.
set -eu
export DEBIAN_FRONTEND=noninteractive

python3 -c "import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], '/usr/local/bin/minio')" "$1"
chmod +x /usr/local/bin/minio
mkdir -p /opt/minio/data
cat >/etc/systemd/system/minio.service <<'END'
[Unit]
Description=MinIO
[Service]
Environment=MINIO_ROOT_USER=minioadmin MINIO_ROOT_PASSWORD=minioadmin
ExecStart=/usr/local/bin/minio server /opt/minio/data --console-address :9001
Restart=always
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now minio >/dev/null 2>&1

apt-get -qq update >/dev/null
apt-get -qq -y install postgresql >/dev/null 2>&1
su postgres -c psql >/dev/null <<'END'
CREATE USER mlflow_user WITH PASSWORD 'password';
CREATE DATABASE mlflow OWNER mlflow_user;
ALTER SYSTEM SET listen_addresses = '*';
END
echo 'host all all 0.0.0.0/0 md5' >>/etc/postgresql/15/main/pg_hba.conf
systemctl restart postgresql

apt-get -qq -y install python3-venv >/dev/null 2>&1
python3 -m venv /opt/mlflow
/opt/mlflow/bin/pip install -q --disable-pip-version-check mlflow==3.17.2 psycopg2-binary boto3
export AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000
/opt/mlflow/bin/python -c "import boto3; boto3.client('s3', endpoint_url='http://127.0.0.1:9000').create_bucket(Bucket='mlflow')"
cat >/etc/systemd/system/mlflow.service <<'END'
[Unit]
Description=MLflow
[Service]
Environment=AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000
ExecStart=/opt/mlflow/bin/mlflow server --backend-store-uri postgresql+psycopg2://mlflow_user:password@127.0.0.1:5432/mlflow --default-artifact-root s3://mlflow --host 0.0.0.0 --port 5000
Restart=always
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now mlflow >/dev/null 2>&1
# Done when it serves, as with ours.
python3 - <<'END'
import time, urllib.request
end = time.monotonic() + 180
while True:
    try:
        if urllib.request.urlopen("http://127.0.0.1:5000/health", timeout=2).read() == b"OK":
            break
    except OSError:
        if time.monotonic() > end:
            raise
    time.sleep(0.1)
END
