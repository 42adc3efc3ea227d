"""PyTorch libraries' names of layers beside ours, network by network.

torchvision, timm and the data packages of EfficientNet-Lite call the same
layer by other names. A scheme has one library's names of all layers of a
network, its classifier last.
"""

import dataclasses
from collections.abc import Iterable

from tlkeras.backbones import alexnet
from tlkeras.backbones import efficientnet_lite
from tlkeras.backbones import googlenet
from tlkeras.backbones import resnet
from tlkeras.backbones import squeezenet

# A layer: its name in the library, ours, and its kind in `torch_weights`.
Layer = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a library calls a network's layers."""

    library: str
    layers: tuple[Layer, ...]


def _alexnet() -> list[Layer]:
    layers = []
    # A convolution, a ReLU and sometimes a pooling have an index each.
    index = 0
    for number, (*_, pool) in enumerate(alexnet.CONVOLUTIONS, 1):
        layers.append((f"features.{index}", f"conv{number}", "layer"))
        index += 3 if pool else 2
    return [
        *layers,
        ("classifier.1", "fc6", "on a map"),
        ("classifier.4", "fc7", "layer"),
        ("classifier.6", "fc8", "layer"),
    ]


def _squeezenet(fires: tuple[int, ...]) -> list[Layer]:
    # Behind the first convolution and its ReLU.
    indices = [
        index for index, fire in enumerate(fires, 2) if fire != squeezenet.POOL
    ]
    return [
        ("features.0", "conv1", "layer"),
        *(
            (f"features.{index}.{theirs}", f"fire{number}_{ours}", "layer")
            for number, index in enumerate(indices, 2)
            for theirs, ours in (
                ("squeeze", "squeeze1x1"),
                ("expand1x1", "expand1x1"),
                ("expand3x3", "expand3x3"),
            )
        ),
        ("classifier.1", "conv10", "layer"),
    ]


def _googlenet() -> list[Layer]:
    names = [(f"conv{number}", f"conv{number}") for number in (1, 2, 3)]
    names += [
        (f"inception{number}.branch{theirs}", f"inception{number}_{ours}")
        for number, *_ in googlenet.INCEPTIONS
        for theirs, ours in (
            ("1", "1"),
            ("2.0", "2_reduce"),
            ("2.1", "2"),
            ("3.0", "3_reduce"),
            ("3.1", "3"),
            ("4.1", "4"),
        )
    ]
    return [
        *_normalized(
            (f"{theirs}.conv", f"{theirs}.bn", ours) for theirs, ours in names
        ),
        _FC,
    ]


def _resnet(stages: tuple[int, ...], convolutions: int) -> list[Layer]:
    names = [("conv1", "bn1", "conv1")]
    for stage, blocks in enumerate(stages, 1):
        for block in range(blocks):
            theirs = f"layer{stage}.{block}"
            ours = f"conv{stage + 1}_block{block + 1}"
            names += [
                (
                    f"{theirs}.conv{index}",
                    f"{theirs}.bn{index}",
                    f"{ours}_{index}",
                )
                for index in range(1, convolutions + 1)
            ]
            # Of two convolutions the first stage keeps the shape.
            if not block and (stage > 1 or convolutions > 2):
                skip = f"{theirs}.downsample"
                names.append((f"{skip}.0", f"{skip}.1", f"{ours}_skip"))
    return [*_normalized(names), _FC]


def _lite_of_package(name: str) -> list[Layer]:
    layers = _normalized([("_conv_stem", "_bn0", "stem")])
    for index, (block, *_, expansion, _) in enumerate(
        efficientnet_lite.blocks(name)
    ):
        theirs = f"_blocks.{index}."
        expand = (f"{theirs}_expand_conv", f"{theirs}_bn0", f"{block}_expand")
        layers += [
            *_normalized([expand] if expansion > 1 else []),
            (f"{theirs}_depthwise_conv", f"{block}_depthwise_conv", _DEEP),
            (f"{theirs}_bn1", f"{block}_depthwise_bn", "norm"),
            *_normalized(
                [
                    (
                        f"{theirs}_project_conv",
                        f"{theirs}_bn2",
                        f"{block}_project",
                    )
                ]
            ),
        ]
    layers += _normalized([("_conv_head", "_bn1", "top")])
    return [*layers, ("_fc", "fc", "layer")]


def _lite_of_timm(name: str) -> list[Layer]:
    layers = _normalized([("conv_stem", "bn1", "stem")])
    for block, *_, expansion, _ in efficientnet_lite.blocks(name):
        stage, index = int(block[5]) - 1, ord(block[6]) - ord("a")
        theirs = f"blocks.{stage}.{index}."
        expand = [(f"{theirs}conv_pw", f"{theirs}bn1", f"{block}_expand")]
        # Without expansion the point-wise convolution is the last one.
        last = ("conv_pwl", "bn3") if expansion > 1 else ("conv_pw", "bn2")
        norm = "bn2" if expansion > 1 else "bn1"
        layers += [
            *_normalized(expand if expansion > 1 else []),
            (f"{theirs}conv_dw", f"{block}_depthwise_conv", _DEEP),
            (f"{theirs}{norm}", f"{block}_depthwise_bn", "norm"),
            *_normalized(
                [(theirs + last[0], theirs + last[1], f"{block}_project")]
            ),
        ]
    layers += _normalized([("conv_head", "bn2", "top")])
    return [*layers, ("classifier", "fc", "layer")]


def _normalized(names: Iterable[tuple[str, str, str]]) -> list[Layer]:
    """Returns convolutions and their BatchNorms.

    names: theirs of both, and what ours begin with.
    """
    return [
        layer
        for convolution, norm, ours in names
        for layer in (
            (convolution, f"{ours}_conv", "layer without bias"),
            (norm, f"{ours}_bn", "norm"),
        )
    ]


def _scheme(library: str, layers: list[Layer]) -> Scheme:
    return Scheme(library, tuple(layers))


_FC = ("fc", "fc", "layer")
_DEEP = "depthwise without bias"
_TORCHVISION = "torchvision"
SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "AlexNet": (_scheme(_TORCHVISION, _alexnet()),),
    "SqueezeNet1_0": (
        _scheme(_TORCHVISION, _squeezenet(squeezenet.FIRES_1_0)),
    ),
    "SqueezeNet1_1": (
        _scheme(_TORCHVISION, _squeezenet(squeezenet.FIRES_1_1)),
    ),
    "GoogLeNet": (_scheme(_TORCHVISION, _googlenet()),),
    "ResNet18": (_scheme(_TORCHVISION, _resnet(resnet.STAGES_18, 2)),),
    "ResNet34": (_scheme(_TORCHVISION, _resnet(resnet.STAGES_34, 2)),),
    **{
        name: (
            _scheme("efficientnet-lite-pytorch", _lite_of_package(name)),
            _scheme("timm", _lite_of_timm(name)),
        )
        for name in efficientnet_lite.FACTORS
    },
}
