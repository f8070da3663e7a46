"""What hosts fetch from on bad days, inside a host: `silent` accepts, sends a little, and then nothing; `index` is a package index over TLS."""

from __future__ import annotations

import hashlib
import http.server
import io
import ssl
import sys
import threading
import zipfile

METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"


def wheel() -> bytes:
    """A package that holds nothing but its name, the same bytes each time."""
    files = {"tiny.py": "", "tiny-1.0.dist-info/METADATA": METADATA, "tiny-1.0.dist-info/RECORD": "tiny.py,,\n"}
    files["tiny-1.0.dist-info/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


class Silent(http.server.BaseHTTPRequestHandler):
    """As apt met it: the answer begins and never goes on."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"x" * 100)
        self.wfile.flush()
        threading.Event().wait()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Index(http.server.BaseHTTPRequestHandler):
    """One package."""

    def do_GET(self) -> None:
        digest = hashlib.sha256(wheel()).hexdigest()
        page = f'<a href="/tiny-1.0-py3-none-any.whl#sha256={digest}">tiny-1.0-py3-none-any.whl</a>'.encode()
        body = wheel() if self.path.endswith(".whl") else page
        self.send_response(200 if "tiny" in self.path else 404)
        self.send_header("Content-Type", "text/html" if body is page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  # the library's name; uv asks so for a wheel's size

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    if sys.argv[1] == "silent":
        http.server.ThreadingHTTPServer(("127.0.0.1", 8077), Silent).serve_forever()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Index)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/root/index.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
