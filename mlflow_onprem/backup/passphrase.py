"""A passphrase to an age key pair.

age's own way with a passphrase takes as much memory as the machine that wrote it could fill in a second, a gigabyte on a fast one. So scrypt is done
here, with parameters that are written down beside the backup, and its 32 bytes are an ordinary age identity: `age -d -i` opens the files with it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret

if TYPE_CHECKING:
    from pyrage.x25519 import Identity

#: 64 MiB and about half a second; of the equivalent settings that OWASP names the one that needs least memory of those above 2**15.
COST = {"n": 1 << 16, "r": 8, "p": 2}
LIMIT = 128 << 20  # bytes a backup may make us use
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
PREFIX = "age-secret-key-"


def generate() -> bytes:
    """What a new backup writes down: the parameters and a salt."""
    return (json.dumps({"kdf": "scrypt", **COST, "salt": secrets.token_hex(16)}) + "\n").encode()


def identity(passphrase: Secret, parameters: bytes) -> Identity:
    """The key pair. Raises OnPremError where the parameters are damaged."""
    from pyrage import x25519

    try:
        found = json.loads(parameters)
        salt, cost = bytes.fromhex(found["salt"]), {name: int(found[name]) for name in COST}
        key = hashlib.scrypt(passphrase.reveal().encode(), salt=salt, dklen=32, maxmem=LIMIT, **cost)
    except (ValueError, KeyError, TypeError) as broken:
        raise OnPremError("what the backup says about its passphrase is damaged", "take another backup: `mlflow-onprem backup list`") from broken
    return x25519.Identity.from_str(bech32(PREFIX, key).upper())


def bech32(prefix: str, content: bytes) -> str:
    """Bytes as age writes keys (BIP 173)."""
    number, bits = int.from_bytes(content, "big"), len(content) * 8
    padding = -bits % 5
    data = [(number << padding) >> shift & 31 for shift in range(bits + padding - 5, -1, -5)]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = _polymod([*expanded, *data, 0, 0, 0, 0, 0, 0]) ^ 1
    return f"{prefix}1" + "".join(LETTERS[value] for value in [*data, *(check >> 5 * (5 - each) & 31 for each in range(6))])


def _polymod(values: Iterable[int]) -> int:
    generator, check = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3), 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, each in enumerate(generator):
            check ^= each if top >> place & 1 else 0
    return check
