"""One PostgreSQL administrator's session, run as the operating system's `postgres` user so that the unix socket's peer check lets it in.

Reads one JSON object a line from standard input, answers one a line: `{"rows": [...]}` or `{"error": ..., "sqlstate": ...}`.
A process of its own, because a process cannot change who it is for one connection, and because psycopg loads while the parent does other work.
The first line holds the connection's parameters; a password comes that way and stands in no argument list.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

Request = dict[str, Any]
PLAIN = {
    "28000": "pg_hba.conf rejects it",
    "28P01": "it wants a password, or another one",
    "53300": "too many clients already",
    "57P03": "it is starting, stopping or recovering",
    "3D000": "there is no such database",
}


def main() -> None:
    """Serve until standard input closes."""
    parameters: dict[str, str] = json.loads(sys.stdin.readline())
    connections: dict[str, psycopg.Connection] = {}
    for line in sys.stdin:
        request: Request = json.loads(line)
        try:
            answer: Request = {"rows": _again(connections, parameters, request)}
        except psycopg.Error as failed:
            text = (failed.diag.message_primary or str(failed)).strip()
            answer = {"error": text, "sqlstate": failed.sqlstate or "08000"}
            connected = connections.pop(request["database"], None)
            if failed.sqlstate is None and connected is None:
                answer |= _refusal(place(parameters), request["database"]) or {}
        print(json.dumps(answer, default=str), flush=True)


def _again(connections: dict[str, psycopg.Connection], parameters: dict[str, str], request: Request) -> list[Any]:
    """A connection that the server's restart cut is rebuilt, unless it was within a transaction: what went before is lost then."""
    used = connections.get(request["database"])
    outside = used is not None and used.info.transaction_status == TransactionStatus.IDLE
    try:
        return _execute(connections, parameters, request)
    except psycopg.OperationalError:
        if used is None or not outside or not used.broken:
            raise
    del connections[request["database"]]
    return _execute(connections, parameters, request)


def _execute(connections: dict[str, psycopg.Connection], parameters: dict[str, str], request: Request) -> list[Any]:
    database: str = request["database"]
    if database not in connections:
        defaults = {"connect_timeout": "10", "application_name": "mlflow-onprem"}
        conninfo = make_conninfo("", **{**defaults, **place(parameters), "dbname": database})
        connections[database] = psycopg.connect(conninfo, autocommit=True)
    statement = sql.SQL(request["statement"])
    names = {key: sql.Identifier(value) for key, value in request["identifiers"].items()}
    values = {key: sql.Literal(value) for key, value in request["literals"].items()}
    cursor = connections[database].execute(statement.format(**names, **values))
    return cursor.fetchall() if cursor.description else []


def place(parameters: dict[str, str]) -> dict[str, str]:
    """Where to connect: `pid_file` names a running server's, whose fourth and fifth lines say where it listens, whatever its files say by now."""
    found = {key: value for key, value in parameters.items() if key != "pid_file"}
    if "pid_file" in parameters:
        try:
            lines = Path(parameters["pid_file"]).read_text().splitlines()
            found |= {"port": str(int(lines[3])), "host": lines[4].strip() or found["host"]}
        except (OSError, IndexError, ValueError):  # not running, or just starting
            pass
    return found


def _refusal(where: dict[str, str], database: str) -> Request | None:
    """Why a server on a socket of this host refuses a connection: libpq hands over a text, in the server's language and without its code."""
    if not where.get("host", "").startswith("/"):
        return None
    text = b"".join(each.encode() + b"\0" for each in ("user", where["user"], "database", database)) + b"\0"
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(5)
            server.connect(f"{where['host']}/.s.PGSQL.{where['port']}")
            server.sendall(struct.pack("!ii", 8 + len(text), 3 << 16) + text)
            stream = server.makefile("rb")
            while kind := stream.read(1):
                body = stream.read(struct.unpack("!i", stream.read(4))[0] - 4)
                if kind == b"E":
                    fields = {each[:1]: each[1:].decode(errors="replace") for each in body.split(b"\0") if each}
                    code, said = fields.get(b"C", "08000"), fields.get(b"M", "")
                    # Before anybody is let in it speaks its own language, in an encoding that nobody names.
                    return {"error": said if said.isascii() else PLAIN.get(code, f"error {code}"), "sqlstate": code}
                if kind == b"R" and body[:4] != b"\0\0\0\0":
                    return {"error": f"it wants a password from its administrator, the role {where['user']}", "sqlstate": "28P01"}
                if kind == b"Z":
                    return None
    except (OSError, struct.error):
        pass
    return None


if __name__ == "__main__":
    main()
