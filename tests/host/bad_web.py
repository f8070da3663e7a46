"""A web server that gives what download pages give on bad days. Runs inside a host."""

import http.server


class Bad(http.server.BaseHTTPRequestHandler):
    """The path says what comes."""

    def do_GET(self) -> None:
        what = self.path.strip("/")
        page, program = b"<!DOCTYPE html><title>Log in</title>", b"\x7fELF" + bytes(3_000_000)
        status = int(what) if what.isdigit() else 200
        kind = "text/html" if status != 200 or what == "html" else "application/octet-stream"
        body = {"wrong": program, "truncated": program, "text": b"not a program\n" * 1000}.get(what, page)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if what == "truncated" else body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 8088), Bad).serve_forever()
