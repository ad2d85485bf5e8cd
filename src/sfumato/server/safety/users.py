"""The users of a server: a file of names with argon2 hashes of their passwords."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write, read_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
MIN_PASSWORD = 8
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_hex())  # takes a wrong name as long as a wrong password


class Users:
    """The users in a file, which is read again when it changes."""

    def __init__(self, path: Path):
        self.path = path
        self._state: tuple[int, int] | None = None
        self._hashes: dict[str, str] = {}
        self.hashes()

    def hashes(self) -> dict[str, str]:
        """Returns the hashes by name. Raises SfumatoError for a file that cannot be read or is no list of users."""
        try:
            status = self.path.stat()
        except OSError as error:
            add = f"`sfumato serve user add NAME --users {self.path}` makes one"
            raise SfumatoError(f"cannot read the users of {self.path}: {error.strerror}; {add}") from error
        state = status.st_mtime_ns, status.st_size
        if state != self._state:
            self._hashes, self._state = read_users(self.path), state
        return self._hashes

    def verify(self, name: str, password: str) -> bool:
        """Returns whether this is the password of a user. Takes about 50 ms, whatever the answer."""
        hash = self.hashes().get(name)
        try:
            return _HASHER.verify(hash or _NOBODY, password) and hash is not None
        except (VerificationError, InvalidHashError):
            return False


def read_users(path: Path) -> dict[str, str]:
    """Returns the users in a file of lines "name:hash". Raises SfumatoError for any other line."""
    users = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hash = line.strip().partition(":")
        if not NAME.fullmatch(name) or not hash.startswith("$argon2"):
            raise SfumatoError(f"line {number} of {path} is no name with an argon2 hash; write name:$argon2id$...")
        users[name] = hash
    return users


def add_user(path: Path, name: str, password: str) -> None:
    """Adds a user to a file, or changes the password. Raises SfumatoError for a bad name or too short a password."""
    if not NAME.fullmatch(name):
        raise SfumatoError(f"{name!r} is no name of a user; use letters, digits and . _ @ -, at most 64")
    if len(password) < MIN_PASSWORD:
        raise SfumatoError(f"the password has {len(password)} characters; choose one of {MIN_PASSWORD} or more")
    users = read_users(path) if path.exists() else {}
    users[name] = _HASHER.hash(password)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write("".join(f"{user}:{hash}\n" for user, hash in users.items()).encode())
    path.chmod(0o600)
