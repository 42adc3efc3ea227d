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
    """How a library calls a network's layers.

    scaling: of the pixels that its weights want; '' is the network's own.
    """

    library: str
    layers: tuple[Layer, ...]
    scaling: str = ""


def _alexnet() -> list[Layer]:
    layers = []
    # A convolution, a ReLU and sometimes a pooling have an index each.
    index = 0
    for number, (*_, pool) in enumerate(alexnet.CONVOLUTIONS, 1):
        layers.append((f"features.{index}", f"conv{number}", "layer"))
        index += 3 if pool else 2
    return [
        *layers,
        ("classifier.1", "fc6", "on a map of 6"),
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


def _vgg(convolutions: tuple[int, ...], top: list[str]) -> list[Layer]:
    layers = []
    index = 0
    for block, count in enumerate(convolutions, 1):
        for number in range(1, count + 1):
            layers.append(
                (f"features.{index}", f"block{block}_conv{number}", "layer")
            )
            # A ReLU behind it, and a pooling behind the block.
            index += 2
        index += 1
    kinds = ("on a map of 7", "layer", "layer")
    ours = ("fc1", "fc2", "predictions")
    return [*layers, *zip(top, ours, kinds, strict=True)]


def _densenet(blocks: tuple[int, ...], dot: str) -> list[Layer]:
    """Returns DenseNet's layers; dot: what files of 2017 have in names."""
    layers = [
        ("features.conv0", "conv1_conv", "layer without bias"),
        ("features.norm0", "conv1_bn", "norm"),
    ]
    for block, count in enumerate(blocks, 1):
        for index in range(1, count + 1):
            theirs = f"features.denseblock{block}.denselayer{index}"
            ours = f"conv{block + 1}_block{index}"
            layers += [
                (f"{theirs}.norm{dot}1", f"{ours}_0_bn", "norm"),
                (f"{theirs}.conv{dot}1", f"{ours}_1_conv", _PLAIN),
                (f"{theirs}.norm{dot}2", f"{ours}_1_bn", "norm"),
                (f"{theirs}.conv{dot}2", f"{ours}_2_conv", _PLAIN),
            ]
        if block < len(blocks):
            theirs, ours = f"features.transition{block}", f"pool{block + 1}"
            layers += [
                (f"{theirs}.norm", f"{ours}_bn", "norm"),
                (f"{theirs}.conv", f"{ours}_conv", _PLAIN),
            ]
    layers.append(("features.norm5", "bn", "norm"))
    return [*layers, ("classifier", "predictions", "layer")]


# What a library calls the parts of a ConvNeXt: stem, downsampling, block; then
# of a block; then what stands at its end.
_CONVNEXT = {
    "torchvision": (
        ("features.0.{}", "features.{}.{}", "features.{}.{}"),
        ("block.0", "block.2", "block.3", "block.5", "layer_scale"),
        ("classifier.0", "classifier.2"),
    ),
    "timm": (
        ("stem.{}", "stages.{}.downsample.{}", "stages.{}.blocks.{}"),
        ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        ("head.norm", "head.fc"),
    ),
    "Meta": (
        ("downsample_layers.0.{}", "downsample_layers.{}.{}", "stages.{}.{}"),
        ("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
        ("norm", "head"),
    ),
}


def _convnext(name: str, middle: int, library: str) -> list[Layer]:
    (stem, down, block), parts, (norm, head) = _CONVNEXT[library]
    own = f"convnext_{name}"
    layers = [
        (stem.format(0), f"{own}_stem_conv", "layer"),
        (stem.format(1), f"{own}_stem_layernorm", "layer norm"),
    ]
    kinds = ("layer", "layer norm", "layer", "layer", "scale")
    names = (
        "depthwise_conv",
        "layernorm",
        "pointwise_conv_1",
        "pointwise_conv_2",
        "layer_scale",
    )
    for stage, count in enumerate((3, 3, middle, 3)):
        # torchvision counts stem, stages and what is between them through.
        place = 2 * stage + 1 if library == "torchvision" else stage
        if stage:
            between = 2 * stage if library == "torchvision" else stage
            lower = f"{own}_downsampling_layernorm_{stage - 1}"
            shrink = f"{own}_downsampling_conv_{stage - 1}"
            layers += [
                (down.format(between, 0), lower, "layer norm"),
                (down.format(between, 1), shrink, "layer"),
            ]
        for index in range(count):
            theirs = block.format(place, index)
            ours = f"{own}_stage_{stage}_block_{index}"
            layers += [
                (f"{theirs}.{part}", f"{ours}_{each}", kind)
                for part, each, kind in zip(parts, names, kinds, strict=True)
            ]
    layers.append((norm, "layer_normalization", "layer norm"))
    return [*layers, (head, "predictions", "layer")]


def _efficientnet_v2(repeats: tuple[int, ...]) -> list[Layer]:
    layers = _normalized([("conv_stem", "bn1", "stem")])
    for stage, count in enumerate(repeats):
        for index in range(count):
            theirs = f"blocks.{stage}.{index}."
            ours = f"block{stage + 1}{chr(ord('a') + index)}"
            project = f"{ours}_project"
            if not stage:
                names = [("conv", "bn1", project)]
            elif stage < 3:
                names = [
                    ("conv_exp", "bn1", f"{ours}_expand"),
                    ("conv_pwl", "bn2", project),
                ]
            else:
                names = [
                    ("conv_pw", "bn1", f"{ours}_expand"),
                    ("conv_pwl", "bn3", project),
                ]
                layers += _excited(theirs, ours, f"{ours}_dwconv2", "bn2")
            layers += _normalized(
                (theirs + convolution, theirs + norm, name)
                for convolution, norm, name in names
            )
    layers += _normalized([("conv_head", "bn2", "top")])
    return [*layers, ("classifier", "predictions", "layer")]


def _excited(theirs: str, ours: str, depthwise: str, norm: str) -> list[Layer]:
    """Returns a depthwise convolution with what squeezes and excites."""
    return [
        (f"{theirs}conv_dw", depthwise, _DEEP),
        (f"{theirs}{norm}", f"{ours}_bn", "norm"),
        (f"{theirs}se.conv_reduce", f"{ours}_se_reduce", "layer"),
        (f"{theirs}se.conv_expand", f"{ours}_se_expand", "layer"),
    ]


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


def _scheme(library: str, layers: list[Layer], scaling: str = "") -> Scheme:
    return Scheme(library, tuple(layers), scaling)


_FC = ("fc", "fc", "layer")
_DEEP = "depthwise without bias"
_PLAIN = "layer without bias"
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
        f"ResNet{depth}-torchvision": (
            _scheme(_TORCHVISION, _resnet(stages, 3)),
        )
        for depth, stages in (
            (50, resnet.STAGES_34),
            (101, resnet.STAGES_101),
            (152, resnet.STAGES_152),
        )
    },
    **{
        name: tuple(
            # Keras' own weights of these want the pixels of Caffe.
            _scheme(library, _vgg(convolutions, top), "torch")
            for library, top in (
                (_TORCHVISION, [f"classifier.{index}" for index in (0, 3, 6)]),
                ("timm", ["pre_logits.fc1", "pre_logits.fc2", "head.fc"]),
            )
        )
        for name, convolutions in (
            ("VGG16", (2, 2, 3, 3, 3)),
            ("VGG19", (2, 2, 4, 4, 4)),
        )
    },
    **{
        f"DenseNet{depth}": (
            _scheme(_TORCHVISION, _densenet(blocks, "")),
            _scheme(_TORCHVISION, _densenet(blocks, ".")),
        )
        for depth, blocks in (
            (121, (6, 12, 24, 16)),
            (169, (6, 12, 32, 32)),
            (201, (6, 12, 48, 32)),
        )
    },
    **{
        f"ConvNeXt{size}": tuple(
            _scheme(library, _convnext(size.lower(), middle, library))
            for library in _CONVNEXT
        )
        for size, middle in (
            ("Tiny", 9),
            ("Small", 27),
            ("Base", 27),
            ("Large", 27),
            ("XLarge", 27),
        )
    },
    **{
        f"EfficientNetV2{size}": (_scheme("timm", _efficientnet_v2(repeats)),)
        for size, repeats in (
            ("B0", (1, 2, 2, 3, 5, 8)),
            ("B1", (2, 3, 3, 4, 6, 9)),
            ("B2", (2, 3, 3, 4, 6, 10)),
            ("B3", (2, 3, 3, 5, 7, 12)),
            ("S", (2, 4, 4, 6, 9, 15)),
            ("M", (3, 5, 5, 7, 14, 18, 5)),
            ("L", (4, 7, 7, 10, 19, 25, 7)),
        )
    },
    **{
        name: (
            _scheme("efficientnet-lite-pytorch", _lite_of_package(name)),
            _scheme("timm", _lite_of_timm(name)),
        )
        for name in efficientnet_lite.FACTORS
    },
}
# Why a network of Keras has no twin in torchvision or timm, by family.
OTHERS = {
    "ResNet": "Keras' ResNets have biases, and shrink the map in the first "
    "convolution of a block: give --backbone=ResNet50-torchvision, "
    "ResNet101-torchvision or ResNet152-torchvision",
    "ResNetV2": "Keras shrinks the map in a stage's last block, timm in its "
    "first",
    "InceptionV3": "Keras' BatchNorm has no gamma there, and its average "
    "pooling leaves the border out, which torchvision's counts as zeros",
    "InceptionResNetV2": "Keras' BatchNorm has no gamma there",
    "Xception": "PyTorch pads both sides alike, Keras the far one more",
    "MobileNet": "PyTorch pads both sides alike, Keras the far one more",
    "MobileNetV2": "PyTorch pads both sides alike, Keras the far one more, and "
    "its BatchNorm has another epsilon",
    "MobileNetV3": "torchvision pads both sides alike, Keras the far one more, "
    "and no table has been made for timm's",
    "NASNet": "timm pads otherwise",
    "EfficientNet": "torchvision pads both sides alike, and no table has been "
    "made for timm's: EfficientNetV2 and EfficientNetLite have one",
}
