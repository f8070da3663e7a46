"""MLflow's page, with its switch for telemetry where telemetry is: off.

The server sends none and tells the page so, but the switch in Settings knows only what the browser remembers, and without that shows "On".
"""

from __future__ import annotations

from pathlib import Path

#: What the page's script keeps the switch under; tests/server/test_answers.py looks for both parts in MLflow's own script.
KEY, VERSION = "mlflow.settings.telemetry.enabled", 1
_SCRIPT = f'<script>try{{localStorage.setItem("{KEY}_v{VERSION}","false")}}catch(e){{}}</script>'
_BEFORE = "<script"


def switched_off(page: str) -> str:
    """The page with our line before its first script; unchanged where it has none."""
    return page.replace(_BEFORE, _SCRIPT + _BEFORE, 1)


def install() -> None:
    """Serve it in place of the file; once, in each worker."""
    from flask import Response
    from mlflow.server import app as flask_app

    file = Path(flask_app.static_folder or "", "index.html")
    if not file.is_file():
        return
    page = switched_off(file.read_text(encoding="utf-8")).encode()

    def serve() -> Response:
        # Asked for each time, so that no browser keeps an older one.
        return Response(page, mimetype="text/html", headers={"Cache-Control": "no-cache"})

    flask_app.view_functions["serve"] = serve
