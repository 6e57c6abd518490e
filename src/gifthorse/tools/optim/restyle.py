"""Clean pictures drawn anew with a texture, their content still there to see; differentiable and batched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.classifier import FORWARD_BATCH, Classifier

LUMA = (0.299, 0.587, 0.114)
SHEET = 1.5  # side of a texture to redraw with, relative to the picture's, so that cuttings differ
RESTORED = 0.5  # share of the coarse brightness that a picture gets back
CHOICE = 6.0  # how sharply the cutting is chosen whose brightness fits


def brightness(x: Tensor) -> Tensor:
    """``(n, 3, h, w)`` -> ``(n, 1, h, w)``."""
    return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def blurred(x: Tensor, side: int) -> Tensor:
    """Two box filters of ``side`` pixels (an odd number), mirrored at the border."""
    for _ in range(2):
        x = F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="reflect"), side, 1)
    return x


def _odd(share: float, size: int) -> int:
    return 2 * max(1, round(share * size / 2)) + 1


class Restyler:
    """Draws the same scenes in any texture.

    Each place takes, of several cuttings of the texture, the one whose local brightness fits the picture's there;
    then half of the picture's coarse brightness is given back and the outcome mixed with the picture. With one
    cutting that is a plain overlay; with many the texture follows the content, as in texture transfer by pieces
    (Efros and Freeman, SIGGRAPH 2001), which it replaces by something soft and cheap.

    Args:
        scenes: ``(n, 3, h, h)`` pictures in [0, 1].
        mix: ``(n,)`` share of the texture in each outcome, in [0, 1].
    """

    def __init__(self, scenes: Tensor, mix: Tensor) -> None:
        size = scenes.shape[-1]
        self.scenes, self.mix = scenes, mix.view(-1, 1, 1, 1)
        self.near, self.far = _odd(0.06, size), _odd(0.16, size)
        grey = brightness(scenes)
        self.coarse = blurred(grey, self.far)
        local = blurred(grey, self.near)
        self.local = (local - local.mean((2, 3), keepdim=True)) / (local.std((2, 3), keepdim=True) + 1e-3)

    def half(self, second: bool) -> Restyler:
        """The first half of the scenes, which is the larger one, or the second."""
        middle = (len(self.scenes) + 1) // 2
        some = slice(middle, None) if second else slice(middle)
        return Restyler(self.scenes[some], self.mix[some])

    def __call__(self, textures: Tensor, corners: Tensor) -> Tensor:
        """Every scene in every texture.

        Args:
            textures: ``(m, 3, s, s)`` in [0, 1], s at least h.
            corners: ``(k, 2)`` top left corners of the cuttings.

        Returns:
            ``(m * n, 3, h, h)`` in [0, 1], texture by texture.
        """
        m, n, h = len(textures), len(self.scenes), self.scenes.shape[-1]
        local = blurred(brightness(textures), self.near)
        mean, spread = local.mean((2, 3), keepdim=True), local.std((2, 3), keepdim=True)
        places = [(slice(y, y + h), slice(x, x + h)) for y, x in corners.tolist()]
        cuttings = torch.stack([textures[:, :, y, x] for y, x in places], 1)  # (m, k, 3, h, h)
        if len(places) > 1:
            levels = torch.cat([local[:, :, y, x] for y, x in places], 1)  # (m, k, h, h)
            wanted = self.local[:, 0] * spread + mean  # (m, n, h, h)
            gap = (levels[:, None] - wanted[:, :, None]) / (0.05 + 0.5 * spread[:, :, None])
            drawn = torch.einsum("mnkhw,mkchw->mnchw", torch.softmax(-CHOICE * gap.square(), 2), cuttings)
        else:
            drawn = cuttings.expand(m, n, *cuttings.shape[2:])
        drawn = drawn.reshape(m * n, 3, h, h)
        coarse = self.coarse.repeat(m, 1, 1, 1) - blurred(brightness(drawn), self.far)
        scenes, mix = self.scenes.repeat(m, 1, 1, 1), self.mix.repeat(m, 1, 1, 1)
        return torch.lerp(scenes, drawn + RESTORED * coarse, mix).clamp(0, 1)


Way = tuple[Restyler, Tensor]
"""Some scenes with their shares, and the corners of the cuttings with which they are redrawn."""


def ways(scenes: Tensor, mix: tuple[float, float], cuttings: int, slack: int, draw: torch.Generator) -> tuple[Way, Way]:
    """Both ways of redrawing: of many cuttings the one whose brightness fits, place by place; and one whole cutting.

    A texture that is broken up by the first is laid whole by the second, which hides the object under it.

    Args:
        scenes: ``(n, 3, h, h)`` clean pictures.
        mix: smallest and largest share of the texture.
        cuttings: of how many cuttings the first way chooses.
        slack: pixels by which textures are larger than scenes.
        draw: random generator; every texture is used at the same places.
    """
    n = len(scenes)
    share = mix[0] + (mix[1] - mix[0]) * (torch.randperm(n, generator=draw) + 0.5) / n
    corners = torch.randint(0, slack + 1, (cuttings + 1, 2), generator=draw)
    styler = Restyler(scenes, share)
    return (styler, corners[1:]), (styler, corners[:1])


@torch.no_grad()
def redrawn_confidence(networks: Sequence[Classifier], sheets: Tensor, way: Way) -> Tensor:
    """Confidence in every class when a way's scenes are redrawn in each texture.

    Args:
        networks: the networks that look.
        sheets: ``(k, 3, s, s)`` textures in [0, 1].
        way: one of `ways`, with ``n`` scenes.

    Returns:
        ``(networks, k, n, classes)`` in [0, 1].
    """
    styler, corners = way
    n, parts = len(styler.scenes), []
    for some in torch.split(sheets, max(1, FORWARD_BATCH // n)):
        x = styler(some, corners)
        parts.append(torch.stack([torch.softmax(net(x), 1).view(len(some), n, -1) for net in networks]))
    return torch.cat(parts, 1)
