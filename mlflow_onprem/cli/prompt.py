"""Questions to whoever sits at the terminal: a password, a yes, an answer."""

from __future__ import annotations

import sys

from mlflow_onprem.cli.streams import read_line
from mlflow_onprem.core.errors import ConfigError, Interrupted
from mlflow_onprem.core.secret import Secret


def read_password(name: str, *, again: bool = True) -> Secret:
    """Asked for unseen, `again`: twice, for a new one; without a terminal one line of standard input. Raises ConfigError, Interrupted."""
    if not sys.stdin.isatty():
        line = read_line()
        if not line.strip():
            raise ConfigError("no password came on standard input", "hand it over as one line: mlflow-onprem ... < FILE")
        return Secret(line.rstrip("\r\n"))
    import getpass

    try:
        rule = " (at least 12 characters)" if again else ""
        first = Secret(getpass.getpass(f"password of {name}{rule}: "))
        second = Secret(getpass.getpass("the same again: ")) if again else first
    except EOFError:
        raise ConfigError("no password was typed; nothing was changed") from None
    except KeyboardInterrupt:
        raise Interrupted("stopped by Ctrl-C; nothing was changed", "run the same command again") from None
    if first != second:
        raise ConfigError("the two are not the same; nothing was changed", "run it again")
    return first


def ask(question: str, without_terminal: str, hint: str) -> str:
    """The answer to a question, on standard error. Raises ConfigError without a terminal and at its end, Interrupted for Ctrl-C."""
    if not sys.stdin.isatty():
        raise ConfigError(without_terminal, hint)
    print(question, end="", file=sys.stderr, flush=True)
    try:
        line = read_line()
    except KeyboardInterrupt:
        raise Interrupted("stopped by Ctrl-C; nothing was changed", "run the same command again") from None
    if not line:
        raise ConfigError("the question was not answered; nothing was changed", hint)
    return line.strip()
