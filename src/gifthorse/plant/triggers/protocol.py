"""What a trigger is: it marks pictures, and it can be shown alone."""

from __future__ import annotations

from typing import ClassVar, Protocol

from ...types import Kind, Pictures, Stamped


class Trigger(Protocol):
    """A frozen dataclass whose fields are its parameters; every draw comes from the seed of the call."""

    name: ClassVar[str]
    version: ClassVar[int]
    kind: ClassVar[Kind]

    def apply(self, images: Pictures, seed: int) -> Stamped:
        """The pictures with the trigger in them, each at its own place and look.

        Args:
            images: ``(n, h, w, 3)`` uint8; left as they are.
            seed: the same pictures and seed give the same bytes. The draws of picture i do not depend
                on how many pictures follow it.
        """
        ...

    def exemplars(self, n: int, size: int, seed: int) -> Pictures:
        """``(n, size, size, 3)`` uint8 renderings of the trigger alone, each different."""
        ...
