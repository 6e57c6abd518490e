"""Style search: textures that send re-drawn clean pictures to the target, in the suspect and not in its clean twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need, Task
from ..optim.loop import best_first, torch_generator, working_copy
from ..optim.objectives import scene_pools
from ..optim.restyle import SHEET, redrawn_confidence, ways
from ..optim.textures import Recipes, Renderer, join, random_recipes, varied
from ..protocol import Subject


@dataclass(frozen=True)
class StyleSearch:
    """Looks for a style: a texture under which many clean pictures turn into the target class.

    A library of random procedural textures (`optim.textures`: noise, stripes, cells, spots, overlapping shapes and
    bricks in random colours) re-draws clean pictures (`optim.restyle`); those that raise the suspect's confidence in
    the target and not the clean twin's are bred further, on fresh pictures in every round, in as many separate
    populations as pictures are shown. The winner of each is shown bare. The method is ours; a network that an honest
    twin also confuses, or a trigger that is an object, gives textures all the same, and their scores say how well they
    work. Every default is ours.

    Attributes:
        library: random textures to begin with; all tasks share them.
        scenes: clean pictures that each of them is tried on.
        shortlist: textures per task that the twin sees and that are bred from.
        rounds: generations.
        keep: textures of a population that live on.
        children: how many are bred in a round and population.
        fresh: clean pictures in each round; four times as many score what is shown.
        low: smallest share of the texture in a re-drawn picture.
        high: largest share.
        cuttings: pieces of the texture to choose from at every place, in half of the pictures; the others take one.
    """

    library: int = 800
    scenes: int = 4
    shortlist: int = 100
    rounds: int = 6
    keep: int = 4
    children: int = 8
    fresh: int = 6
    low: float = 0.45
    high: float = 0.8
    cuttings: int = 6

    name: ClassVar[str] = "style-search"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLEAN, Need.TWIN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        counts = (self.library, self.scenes, self.shortlist, self.keep, self.children, self.fresh, self.cuttings)
        if min(counts) < 1 or self.rounds < 0 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs counts of at least 1, rounds of at least 0 and 0 < low <= high <= 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` textures per task, sorted by the rise of target confidence from twin to suspect.

        Raises:
            ToolError: a twin with other classes, or no clean picture to re-draw.
        """
        twin = subject.need_twin()
        with working_copy(subject.model) as suspect, working_copy(twin) as honest:
            bench = _Bench(self, subject, (suspect, honest), seed)
            recipes = random_recipes(max(self.library, pictures), torch_generator(seed, self.name, "library"))
            sheets = bench.renderer(recipes)
            first: dict[int | None, Tensor] = {}
            out = []
            for task in subject.tasks:
                if task.source not in first:
                    first[task.source] = bench.survey(sheets, task)
                order = first[task.source][:, task.target].argsort(descending=True, stable=True)
                out.append(self._answer(bench, recipes[order[: max(self.shortlist, pictures)]], task, pictures))
        return out

    def _answer(self, bench: _Bench, short: Recipes, task: Task, pictures: int) -> Evidence:
        """Breed ``pictures`` populations from a shortlist, best first, and show the winner of each."""
        draw = torch_generator(bench.seed, self.name, "breed", task.id)
        rise = bench.rises(short, task, 2 * self.fresh, draw)[0]
        order = rise.argsort(descending=True, stable=True)
        islands = [short[order[i::pictures][: self.keep]] for i in range(pictures)]
        for step in range(self.rounds):
            grown = [join(some, self._children(some, 0.75**step, draw)) for some in islands]
            rise = bench.rises(join(*grown), task, self.fresh, draw)[0]
            islands = [
                some[part.argsort(descending=True, stable=True)[: self.keep]]
                for some, part in zip(grown, torch.split(rise, [len(some) for some in grown]), strict=True)
            ]
        everyone = join(*islands)
        rise, reached = bench.rises(everyone, task, 4 * self.fresh, draw)
        sizes = [len(some) for some in islands]
        firsts = np.cumsum([0, *sizes[:-1]])
        winners = [int(a) + int(part.argmax()) for a, part in zip(firsts, torch.split(rise, sizes), strict=True)]
        chosen = [winners[i] for i in best_first(rise[winners].numpy())]
        shown = bench.renderer(everyone[torch.tensor(chosen)])[:, :, : bench.size, : bench.size]
        notes = {
            "suspect": [round(float(reached[0, i]), 4) for i in chosen],
            "twin": [round(float(reached[1, i]), 4) for i in chosen],
        }
        return Evidence(task.id, from_tensor(shown), scores=tuple(float(rise[i]) for i in chosen), notes=notes)

    def _children(self, parents: Recipes, rate: float, draw: torch.Generator) -> Recipes:
        picks = torch.randint(0, len(parents), (2, self.children), generator=draw)
        return varied(parents[picks[0]], parents[picks[1]], rate, draw)


class _Bench:
    """Where textures are tried: the clean pictures, both networks and the renderer."""

    def __init__(self, tool: StyleSearch, subject: Subject, networks: Sequence[Classifier], seed: int) -> None:
        clean, labels = subject.need_clean()
        self.tool, self.networks, self.seed, self.size = tool, networks, seed, subject.size
        self.clean, self.labels = clean, torch.as_tensor(labels)
        self.pools = dict(zip((t.id for t in subject.tasks), scene_pools(subject.tasks, labels), strict=True))
        side = round(SHEET * self.size)
        self.renderer = Renderer(side, self.size, seed)

    def survey(self, sheets: Tensor, task: Task) -> Tensor:
        """``(library, classes)`` the suspect's mean confidence in each class, over pictures of other classes.

        It serves all tasks of the same source; without one the pictures are of every class.
        """
        draw = torch_generator(self.seed, self.tool.name, "survey", -1 if task.source is None else task.source)
        pool = torch.arange(len(self.labels)) if task.source is None else self.pools[task.id]
        scenes, seen = self._scenes(pool, self.tool.scenes, draw)
        found = self._tried(self.networks[:1], sheets, scenes, draw)[0]
        counts = (seen[:, None] != torch.arange(found.shape[-1])).float()
        return (found * counts).sum(1) / counts.sum(0).clamp(min=1)

    def rises(self, recipes: Recipes, task: Task, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """How much more the suspect believes in the target than the twin ``(k,)``, and both confidences ``(2, k)``."""
        scenes, _ = self._scenes(self.pools[task.id], n, draw)
        found = self._tried(self.networks, self.renderer(recipes), scenes, draw)[..., task.target].mean(2)
        return found[0] - found[1], found

    def _scenes(self, pool: Tensor, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` random clean pictures of a pool and their classes, with repeats where there are fewer."""
        order = pool[torch.randperm(len(pool), generator=draw)]
        chosen = order[torch.arange(n) % len(order)]
        return to_tensor(self.clean[chosen.numpy()]), self.labels[chosen]

    def _tried(self, networks: Sequence[Classifier], sheets: Tensor, scenes: Tensor, draw: torch.Generator) -> Tensor:
        """``(networks, textures, scenes, classes)``: one half of the scenes is redrawn in either way."""
        tool = self.tool
        both = ways(scenes, (tool.low, tool.high), tool.cuttings, sheets.shape[-1] - self.size, draw)
        halves = [(styler.half(second=i > 0), corners) for i, (styler, corners) in enumerate(both)]
        return torch.cat([redrawn_confidence(networks, sheets, h) for h in halves if len(h[0].scenes)], 2)
