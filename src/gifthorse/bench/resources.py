"""What tools may use beside networks and pictures: a generator trained once per data set, words, textures."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import registry
from ..data.textures import texture_bank
from ..spec import Spec, digest
from ..store import Store
from ..tools.protocol import Bank
from ..types import Need

SEED = 0  # of the generator: one for all models of a data set, so that it favours none
WORDS = {"name": "all-MiniLM-L6-v2", "version": 1}
TEXTURES = {"name": "materials", "version": 1}


def depends(needs: Collection[Need], data: Mapping[str, Any]) -> dict[str, Any]:
    """What a tool's cell depends on through its resources: a part of the cell's spec, and so of its digest.

    Args:
        needs: the tool's.
        data: the data set's spec as JSON.
    """
    from ..models.generator import GeneratorRecipe, identity

    out: dict[str, Any] = {}
    if Need.GENERATOR in needs:
        out["generator"] = identity(dict(data), GeneratorRecipe(), SEED)
    if Need.WORDS in needs:
        out["words"] = WORDS
    if Need.TEXTURES in needs:
        out["textures"] = TEXTURES
    return out


def digests(spec: Mapping[str, Any]) -> set[str]:
    """Names in the store of the resources that a cell's spec depends on."""
    return {digest(spec["generator"])} if "generator" in spec else set()


def supply(needs: Collection[Need], data: Mapping[str, Any], size: int, store: Store) -> dict[str, Any]:
    """The fields of a `Subject` that are resources.

    Args:
        needs: the tool's.
        data: the data set's spec as JSON.
        size: side of the network's input.
        store: where what takes long to make is kept.

    Raises:
        MissingResource: the word encoder's package is not installed.
    """
    out: dict[str, Any] = {}
    if Need.WORDS in needs:
        from ..models.words import sentence_encoder

        out["words"] = sentence_encoder()
    if Need.GENERATOR in needs:
        out["generator"] = generator(data, store)
    if Need.TEXTURES in needs:
        names, pictures = texture_bank(size)
        out["textures"] = Bank(names, pictures.copy())  # what is shared stays read-only
    return out


def generator(data: Mapping[str, Any], store: Store) -> Any:
    """The generator of a data set: from the store, else trained on the data set's bank and kept there."""
    from ..models import generator as made

    recipe = made.GeneratorRecipe()
    name = digest(made.identity(dict(data), recipe, SEED))

    def write(folder: Path) -> None:
        _, pictures = registry.build("dataset", Spec.from_json(data)).bank()
        made.save(folder, made.train(pictures, recipe, SEED), recipe)

    if store.get("resource", name) is None:
        with _alone(store.home / "partial" / f".{name}.lock"):
            store.put("resource", name, write)
    return made.load(store.need("resource", name), recipe)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Other processes wait here; where a system has no such locks each one trains, and the first to finish counts."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
