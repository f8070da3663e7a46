"""A value that does not print."""

from __future__ import annotations

import hmac


class Secret:
    """A string that compares and hashes like one and shows itself only through `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Callers hand it to a file, standard input or an S3 request, nowhere else."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __deepcopy__(self, _memo: object) -> Secret:
        return self  # it never changes; dataclasses.asdict copies what it finds

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
