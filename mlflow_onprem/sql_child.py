"""One PostgreSQL administrator's session, run as the operating system's `postgres` user so that the unix socket's peer check lets it in.

Reads one JSON object a line from standard input, answers one a line: `{"rows": [...]}` or `{"error": ..., "sqlstate": ...}`.
A process of its own, because a process cannot change who it is for one connection, and because psycopg loads while the parent does other work.
The first line holds the connection's parameters; a password comes that way and stands in no argument list.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

Request = dict[str, Any]


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
            connections.pop(request["database"], None)
        print(json.dumps(answer, default=str), flush=True)


def _again(connections: dict[str, psycopg.Connection], parameters: dict[str, str], request: Request) -> list[Any]:
    """A connection that the server's restart cut is made anew, unless it was within a transaction: what went before is lost then."""
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
        conninfo = make_conninfo("", **{**defaults, **parameters, "dbname": database})
        connections[database] = psycopg.connect(conninfo, autocommit=True)
    statement = sql.SQL(request["statement"])
    names = {key: sql.Identifier(value) for key, value in request["identifiers"].items()}
    values = {key: sql.Literal(value) for key, value in request["literals"].items()}
    cursor = connections[database].execute(statement.format(**names, **values))
    return cursor.fetchall() if cursor.description else []


if __name__ == "__main__":
    main()
