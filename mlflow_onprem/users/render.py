"""The verbs of `user` as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_onprem.settings.config import AuthSection
from mlflow_onprem.users.command import DEFAULT, Account, Granted, Owned, Removed, words


def added_text(name: str, auth: AuthSection, *, admin: bool) -> str:
    """What a new account may do, and what its client needs."""
    may = "may do everything" if admin else f"owns what it creates; of what others own: {auth.default_permission}"
    return f"made account {name}: {may}\nwhat its client sets: mlflow-onprem client-env --user {name}"


def list_text(found: Sequence[Account]) -> str:
    """A line for each account, and how many there are."""
    width = max((len(each.name) for each in found), default=0)
    rows = []
    for each in found:
        owns = ", ".join(words(kind, count) for kind, count in each.owns.items())
        rows.append(
            f"{each.name:<{width}}  {'administrator' if each.admin else '-':<13}  {owns or 'owns nothing':<28}  {', '.join(each.roles)}".rstrip()
        )
    administrators = sum(each.admin for each in found)
    return "\n".join([*rows, "", f"{len(found)} account{'' if len(found) == 1 else 's'}, {administrators} of them administrators"])


def passwd_text(name: str, auth: AuthSection) -> str:
    """That it is new, and for how long the old one is still accepted."""
    return f"{name} has a new password\n{_until(auth, 'the old one')}".rstrip()


def heir_question(name: str, owned: Sequence[Owned]) -> tuple[str, str, str]:
    """The question, and without a terminal what is missing and how to say it."""
    what = f"{name} owns {_listed(owned)}"
    return (
        f"{what}. No data is deleted; somebody has to manage it.\nGive it to which account? (empty: leave it to the administrators): ",
        f"{what}; say what becomes of it",
        "--give-to OTHER hands it over, --leave keeps it for the administrators; no data is deleted either way",
    )


def removed_text(gone: Removed, auth: AuthSection) -> str:
    """Who manages now what it owned."""
    now = f"now {gone.given_to} manages them" if gone.given_to else "kept; only administrators manage them now"
    fate = f"{_listed(gone.owned)}: {now}" if gone.owned else "it owned nothing"
    return f"removed account {gone.name}; {fate}\n{_until(auth, 'its password')}".rstrip()


def granted_text(given: Granted, auth: AuthSection) -> str:
    """What the account may do from now on."""
    what = given.permission if given.permission != DEFAULT else f"{auth.default_permission}, as everybody"
    text = f"{given.name} has {what} on experiment {given.experiment} ({given.experiment_name})"
    return f"{text}\n{given.name} is an administrator and may do everything all the same" if given.administrator else text


def _listed(owned: Sequence[Owned], most: int = 5) -> str:
    counts: dict[str, list[str]] = {}
    for each in owned:
        counts.setdefault(each.kind, []).append(each.name)
    parts = [f"{words(kind, len(names))} ({', '.join(names[:most])}{', ...' if len(names) > most else ''})" for kind, names in counts.items()]
    return " and ".join(parts)


def _until(auth: AuthSection, what: str) -> str:
    if not auth.cache_seconds:
        return ""
    return f"{what} may pass for up to {auth.cache_seconds} s more (mlflow.auth.cache_seconds); to end that now: sudo systemctl reload mlflow"
