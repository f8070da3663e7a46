"""What MLflow's own functions do once ours are in place; runs in MLflow's environment and prints JSON."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.server import app as flask_app
from mlflow.store.db.utils import _get_managed_session_maker
from mlflow_onprem_server import error_text, page, webhooks
from sqlalchemy.orm import sessionmaker


class Receiver(BaseHTTPRequestHandler):
    server: HTTPServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307 if self.path == "/moved" else 200)
        self.send_header("Location", f"http://localhost:{self.server.server_port}/inside")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def errors(statement: str) -> str:
    """The text of MLflow's answer to a statement that fails."""
    maker = _get_managed_session_maker(sessionmaker(sqlalchemy.create_engine("sqlite://")), "sqlite")
    try:
        with maker() as session:
            session.execute(sqlalchemy.text(statement), {"value": "other people's"})
    except MlflowException as error:
        return str(error.serialize_as_json())
    raise AssertionError


def sent(url: str) -> object:
    """The status of a webhook's delivery, or why there was none."""
    from mlflow.webhooks import delivery

    try:
        delivery._validate_webhook_url(url)
        return delivery._create_webhook_session().post(url, data=b"{}", timeout=10).status_code
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    error_text.install()
    webhooks.install((f"http://127.0.0.1:{port}",))
    page.install()
    urls = {
        "listed": f"http://127.0.0.1:{port}/hook",
        "other port": f"http://127.0.0.1:{port + 1}/hook",
        "other name": f"http://localhost:{port}/hook",
        "sent on": f"http://127.0.0.1:{port}/moved",
        "https": f"https://127.0.0.1:{port}/hook",
        "metadata": "https://169.254.169.254/latest",
        "account": f"http://user@127.0.0.1:{port}/hook",
    }
    answer = {name: sent(url) for name, url in urls.items()}
    answer["error"] = errors("SELECT secret FROM experiments WHERE name = :value")
    answer["page"] = flask_app.test_client().get("/").text
    print(json.dumps(answer))


main()
