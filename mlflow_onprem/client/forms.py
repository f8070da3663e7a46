"""Variables ready to paste into a shell, a notebook or a .env file, every value as it is, whatever stands in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence


def form(shell: str, pairs: Mapping[str, str], notes: Sequence[str], direct: Sequence[str] = ()) -> str:
    """The variables in the words of one shell. `direct`: hosts added to no_proxy and NO_PROXY, where what is set there stays."""
    write = {"sh": _sh, "fish": _fish, "powershell": _powershell, "dotenv": _dotenv, "notebook": _notebook}[shell]
    head = [f"# {note}" for note in notes] + (["import os", ""] if shell == "notebook" else [])
    add = {"sh": _add_sh, "fish": _add_fish, "powershell": _add_powershell, "dotenv": _add_dotenv, "notebook": _add_notebook}[shell]
    return "\n".join([*head, *(write(name, value) for name, value in pairs.items()), *(add(direct) if direct else [])])


def _sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    if shlex.quote(value) == value:
        return f"set -gx {name} {value}"
    # In fish a backslash escapes in single quotes, too.
    return "set -gx {} '{}'".format(name, re.sub(r"([\\'])", r"\\\1", value))


def _powershell(name: str, value: str) -> str:
    # PowerShell ends a string at typographic quotes as well; doubled, each stands for itself.
    return "$env:{} = '{}'".format(name, re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value))


def _dotenv(name: str, value: str) -> str:
    if shlex.quote(value) == value:
        return f"{name}={value}"
    return "{}='{}'".format(name, re.sub(r"([\\'])", r"\\\1", value))


def _notebook(name: str, value: str) -> str:
    return f"os.environ[{name!r}] = {value!r}"


# Programs read one spelling or the other, some the first that is set: each starts from the other one where it is empty.
# A lone * (no proxy for anything) stays alone: with another name beside it, it means nothing. Host names need no quoting.


def _add_sh(direct: Sequence[str]) -> list[str]:
    lines = ['export no_proxy="${no_proxy:-${NO_PROXY:-}}" NO_PROXY="${NO_PROXY:-${no_proxy:-}}"']
    for name in ("no_proxy", "NO_PROXY"):
        lines += [f'case ",${name}," in ",*," | *",{each},"*) ;; *) {name}="${{{name}:+${name},}}{each}" ;; esac' for each in direct]
    return lines


def _add_fish(direct: Sequence[str]) -> list[str]:
    lines = ['test -n "$no_proxy"; or set -gx no_proxy "$NO_PROXY"', 'test -n "$NO_PROXY"; or set -gx NO_PROXY "$no_proxy"']
    for name in ("no_proxy", "NO_PROXY"):
        for each in direct:
            listed = f'(string split -n -- , "${name}")'
            lines.append(f"contains -- {each} {listed}; or test \"${name}\" = '*'; or set -gx {name} (string join -- , {listed} {each})")
    return lines


def _add_powershell(direct: Sequence[str]) -> list[str]:
    names = ", ".join(f"'{each}'" for each in direct)
    return [
        "foreach ($n in 'no_proxy', 'NO_PROXY') {",
        "  $v = @($n, 'no_proxy', 'NO_PROXY' | ForEach-Object { [Environment]::GetEnvironmentVariable($_) } | Where-Object { $_ })",
        "  $v = @(\"$($v | Select-Object -First 1)\" -split ',' | Where-Object { $_ })",
        f"  if (\"$v\" -ne '*') {{ Set-Item \"env:$n\" ((@($v) + @({names} | Where-Object {{ $v -notcontains $_ }})) -join ',') }}",
        "}",
    ]


def _add_dotenv(direct: Sequence[str]) -> list[str]:
    # Readers that know no ${...} take it for one more name, which matches nothing.
    return [f"{name}=${{{name}:-}},{','.join(direct)}" for name in ("no_proxy", "NO_PROXY")]


def _add_notebook(direct: Sequence[str]) -> list[str]:
    return [
        "for _name in ('no_proxy', 'NO_PROXY'):",
        "    _listed = [_each for _each in (os.environ.get(_name) or os.environ.get(_name.swapcase()) or '').split(',') if _each]",
        "    if _listed != ['*']:",
        f"        os.environ[_name] = ','.join(dict.fromkeys([*_listed, {', '.join(map(repr, direct))}]))",
    ]
