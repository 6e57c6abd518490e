"""What an audit shows a network: bank pictures pasted on scenes, and scenes drawn anew in textures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..images import from_tensor, to_tensor
from ..models.classifier import FORWARD_BATCH, Classifier
from ..tools.optim.loop import torch_generator
from ..tools.optim.restyle import SHEET, Restyler
from ..tools.optim.textures import Renderer, random_recipes
from ..tools.optim.transforms import cut_out, random_places, soft_disc
from ..tools.protocol import Bank
from ..tools.retrieval.snafue import resized
from ..types import Pictures

Rows = NDArray[np.int64]
OBJECT = (0.28, 0.52)  # sides of a pasted picture, relative to the scene's, as `exemplars` has them
MIX = (0.45, 0.8)  # shares of the texture in a redrawn scene, as `style-search` has them
CUTTINGS = 4


class Stimuli(Protocol):
    """Pictures of one kind that can be laid into any scene."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each picture is called; empty where they have no names."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def alone(self, rows: Rows) -> Pictures:
        """Some of them by themselves, ``(k, h, w, 3)`` uint8."""
        ...

    def laid(self, rows: Rows, scenes: Tensor, seed: int) -> Tensor:
        """Each of some pictures in each scene, ``(rows * scenes, 3, h, w)`` in [0, 1], picture by picture.

        Args:
            rows: which pictures.
            scenes: ``(k, 3, h, w)`` in [0, 1].
            seed: of the places; the same for every picture.
        """
        ...


class Objects:
    """Bank pictures, cut out of a plain ground (else as a disc) and pasted at a random place.

    Args:
        bank: names and pictures.
        size: side of the scenes in pixels.
    """

    def __init__(self, bank: Bank, size: int) -> None:
        self.names, self._shown = bank.names, resized(bank.pictures, size)
        small = F.interpolate(
            to_tensor(self._shown), scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False
        )
        alpha = cut_out(small, soft_disc(small.shape[-1]))
        self._layers = torch.cat([small * alpha, alpha], 1)

    def __len__(self) -> int:
        return len(self._shown)

    def alone(self, rows: Rows) -> Pictures:
        """The bank's pictures, ``(k, h, w, 3)`` uint8."""
        return self._shown[rows]

    def laid(self, rows: Rows, scenes: Tensor, seed: int) -> Tensor:
        """Each picture pasted on each scene; see `Stimuli.laid`."""
        places = random_places(len(scenes), *OBJECT, 0.0, torch_generator(seed, "objects"))
        layers, side = self._layers[rows].flatten(0, 1)[None], scenes.shape[-1]
        line = (torch.arange(side) + 0.5) * (2 / side) - 1
        out = scenes.repeat(len(rows), 1, 1, 1, 1)
        for i, place in enumerate(places):  # all pictures lie at the same place of a scene: one resampling of its box
            across, down = place[0, 0] * line + place[0, 2], place[1, 1] * line + place[1, 2]
            (left, right), (top, bottom) = (_inside(axis) for axis in (across, down))
            y, x = torch.meshgrid(down[top:bottom], across[left:right], indexing="ij")
            laid = F.grid_sample(layers, torch.stack([x, y], -1)[None], mode="bilinear", align_corners=False)
            laid = laid.view(len(rows), 4, *y.shape)
            out[:, i, :, top:bottom, left:right].mul_(1 - laid[:, 3:]).add_(laid[:, :3])
        return out.flatten(0, 1)


def _inside(axis: Tensor) -> tuple[int, int]:
    """First and last but one of the pixels that a picture pasted along an axis can touch."""
    touched = (axis.abs() < 1.1).nonzero()[:, 0]
    return int(touched[0]), int(touched[-1]) + 1


class Styles:
    """Random procedural textures in which scenes are drawn anew; every other scene follows the brightness closely.

    Args:
        count: how many textures.
        size: side of the scenes in pixels.
        seed: of the textures.
    """

    names: tuple[str, ...] = ()

    def __init__(self, count: int, size: int, seed: int) -> None:
        side = round(SHEET * size)
        self._size, self._slack = size, side - size + 1
        self._sheets = Renderer(side, size, seed)(random_recipes(count, torch_generator(seed, "audit", "library")))

    def __len__(self) -> int:
        return len(self._sheets)

    def alone(self, rows: Rows) -> Pictures:
        """A cutting of each texture, ``(k, h, w, 3)`` uint8."""
        return from_tensor(self._sheets[rows][:, :, : self._size, : self._size])

    def laid(self, rows: Rows, scenes: Tensor, seed: int) -> Tensor:
        """Each scene drawn anew in each texture; see `Stimuli.laid`."""
        draw, n = torch_generator(seed, "styles"), len(scenes)
        mix = MIX[0] + (MIX[1] - MIX[0]) * torch.rand(n, generator=draw)
        corners = torch.randint(0, self._slack, (CUTTINGS + 1, 2), generator=draw)
        sheets, size = self._sheets[rows], scenes.shape[1:]
        out = scenes.new_empty(len(sheets), n, *size)
        for first, some in ((0, corners[1:]), (1, corners[:1])):
            if first < n:
                styler = Restyler(scenes[first::2], mix[first::2])
                out[:, first::2] = styler(sheets, some).view(len(sheets), -1, *size)
        return out.flatten(0, 1)


@torch.no_grad()
def confidence(networks: Sequence[Classifier], stimuli: Stimuli, rows: Rows, scenes: Tensor, seed: int) -> Tensor:
    """What networks say of pictures laid into scenes: ``(networks, rows, scenes, classes)`` in [0, 1].

    Args:
        networks: who is asked.
        stimuli: the pictures.
        rows: which of them.
        scenes: ``(k, 3, h, w)`` in [0, 1].
        seed: of the places, as in `Stimuli.laid`.
    """
    each, n = max(1, FORWARD_BATCH // len(scenes)), len(scenes)
    out = torch.empty(len(networks), len(rows), n, len(networks[0].classes))
    for lo in range(0, len(rows), each):
        x = stimuli.laid(rows[lo : lo + each], scenes, seed)
        for i, net in enumerate(networks):
            out[i, lo : lo + each] = torch.softmax(net(x), 1).view(-1, n, out.shape[-1])
    return out
