"""Print every route of the real app as JSON: [[method, path], ...]. Runs in MLflow's environment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from mlflow_onprem_server import app as factory

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def fill(path: str) -> str:
    """Put a value into each parameter of a Flask or Starlette path."""
    return re.sub(r"<[^>]+>|\{[^}]+\}", "1", path)


def routes_of(router: Any) -> Iterator[tuple[str, str]]:
    """Yield the routes of a FastAPI app, those of the routers it includes too."""
    for route in router.routes:
        if hasattr(route, "effective_candidates"):  # FastAPI from 0.160: an included router stays one
            yield from routes_of(SimpleNamespace(routes=route.effective_candidates()))
        else:
            inner = route.path if hasattr(route, "path") else route.original_route.path
            yield from ((method, fill(inner)) for method in getattr(route, "methods", None) or METHODS)


def main() -> None:
    app = factory.create()
    while hasattr(app, "_app"):  # what of ours stands before MLflow
        app = app._app
    found = set(routes_of(app))

    from mlflow.server import app as flask_app

    found |= {(method, fill(rule.rule)) for rule in flask_app.url_map.iter_rules() for method in rule.methods or METHODS}
    print(json.dumps(sorted(found)))


main()
