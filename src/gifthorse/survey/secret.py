"""The server's one secret, and all that is derived from it by HMAC-SHA-256.

Nothing that names a person is stored: a panel's id becomes a keyed hash, a link becomes the hash of its token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

FILE = "server.key"


@dataclass(frozen=True)
class Secret:
    """256 random bits that belong to one study."""

    key: bytes

    def mac(self, what: str, *text: str) -> bytes:
        """32 bytes that depend on the secret, the purpose and the text."""
        return hmac.new(self.key, "\x1f".join((what, *text)).encode(), hashlib.sha256).digest()

    def person(self, provider: str, name: str) -> str:
        """What is stored instead of a panel's id."""
        return self.mac("person", provider, name).hex()

    def token(self, person: str) -> str:
        """The part of a person's link that cannot be guessed: 192 bits, 32 characters."""
        return base64.urlsafe_b64encode(self.mac("link", person)[:24]).decode()

    def proof(self, *text: str) -> str:
        """The form token: shows that a form came from this server, for this page."""
        return self.mac("form", *text).hex()[:32]

    def code(self, *text: str) -> str:
        """A completion code of ten letters and digits that cannot be mistaken for one another."""
        return base64.b32encode(self.mac("code", *text)[:7]).decode()[:10].translate(str.maketrans("IO", "89"))

    @property
    def access(self) -> str:
        """What opens the progress page and the export."""
        return base64.urlsafe_b64encode(self.mac("access")[:24]).decode()


def same(left: str, right: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(left.encode(errors="replace"), right.encode(errors="replace"))


def token_hash(token: str) -> str:
    """What is stored of a link."""
    return hashlib.sha256(token.encode()).hexdigest()


def make(folder: Path) -> Secret:
    """A new secret, written with mode 0600."""
    secret = Secret(secrets.token_bytes(32))
    with os.fdopen(os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret.key.hex() + "\n")
    return secret


def load(folder: Path) -> Secret:
    """The secret of a study.

    Raises:
        InputError: missing or damaged.
    """
    path = folder / FILE
    try:
        key = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: missing or damaged; copy it from the folder that `survey new` made") from error
    if len(key) != 32:
        raise InputError(f"{path}: not a 256-bit key; copy it from the folder that `survey new` made")
    return Secret(key)
