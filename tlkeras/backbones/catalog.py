"""The networks, one row each: how to build them, and what to expect of them.

The numbers are measured on Keras 3.15.1, by building and running every
network. Nothing here imports Keras: names and sizes are checked before that.
"""

import dataclasses
import difflib

from tlkeras import errors


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What is known of a network without building it.

    name: the constructor's as Keras spells it, then `-alpha` for a variant.
    constructor: dotted name of the function that builds the network.
    scaling: what `preprocess_input` does to RGB in [0, 255]: `caffe` (BGR
      minus the mean), `torch` (minus the mean, by the deviation), `tf` (to
      [-1, 1]), `none` (nothing: the network itself scales).
    default_size: side in pixels of the images that it was designed for.
    smallest_size: side in pixels of the smallest image that Keras lets it
      compute; forced below, it refuses, gives NaN or ends the process.
    width: number of features, after average pooling.
    parameters: number of all weights without the classifier, those that are
      not trained included.
    weights: names of the pretrained weights that can be downloaded.
    family: short name of its kind, shared by sizes and variants.
    arguments: further keywords of the constructor, with their values.
    note: what a builder has to know.
    origin: address of the ImageNet weights; '' where Keras knows it.
    sha256: how the hash of that file begins, in hexadecimal digits.
    """

    name: str
    constructor: str
    scaling: str
    default_size: int
    smallest_size: int
    width: int
    parameters: int
    weights: tuple[str, ...]
    family: str
    arguments: tuple[tuple[str, float | str], ...] = ()
    note: str = ""
    origin: str = ""
    sha256: str = ""


# Equal weights then give other features: MobileNetV2 with those of ImageNet,
# 60 photographs of 150 pixels: by 76 % of their norm. At 224 no map but the
# last is odd, at EfficientNetB1's own 240 the one of 15 is.
_ODD_MAPS = "input_shape needs a fixed size, or odd maps are padded elsewhere; "

# Family: scaling, smallest size (pixels), note.
_FAMILIES = {
    "VGG": ("caffe", 32, ""),
    "ResNet": ("caffe", 32, ""),
    "ResNetV2": ("tf", 32, ""),
    "InceptionV3": ("tf", 75, ""),
    "InceptionResNetV2": ("tf", 75, ""),
    "Xception": ("tf", 71, ""),
    "DenseNet": ("torch", 32, ""),
    "MobileNet": (
        "tf",
        32,
        "ImageNet weights exist for 128, 160, 192 and 224 pixels; any other "
        "size gets those of 224",
    ),
    "MobileNetV2": (
        "tf",
        32,
        _ODD_MAPS + "ImageNet weights exist for 96, 128, 160, 192 and 224 "
        "pixels; any other size gets those of 224",
    ),
    "MobileNetV3": (
        "none",
        32,
        _ODD_MAPS + "scales inside, unless include_preprocessing=False; "
        "ImageNet weights are those of 224 pixels at any size",
    ),
    "NASNet": (
        "tf",
        32,
        "without a fixed size in input_shape NASNetLarge lacks layers, and "
        "ImageNet weights do not fit; with one they load at any size; "
        "NASNetMobile refuses the torch backend",
    ),
    "EfficientNet": (
        "none",
        32,
        _ODD_MAPS + "weights='imagenet' adds a Rescaling by 1 / sqrt(std) "
        "that these weights need, and that a file of them does not bring; "
        "another `name` asks for a file that does not exist",
    ),
    "EfficientNetV2": (
        "none",
        32,
        "scales inside, unless include_preprocessing=False: B0 to B3 by mean "
        "and deviation, S, M and L to [-1, 1]; another `name` is a KeyError",
    ),
    "ConvNeXt": (
        "none",
        32,
        "scales inside, unless include_preprocessing=False; ends in a "
        "LayerNormalization behind the pooling; stem and downsampling are "
        "nested Sequentials; ImageNet weights need the default `name`; those "
        "of Base, Large and XLarge come from ImageNet-21k",
    ),
}


def _row(
    family: str,
    constructor: str,
    default_size: int,
    width: int,
    parameters: int,
    **arguments: float,
) -> Backbone:
    scaling, smallest_size, note = _FAMILIES[family]
    return Backbone(
        name="-".join((constructor, *map(str, arguments.values()))),
        constructor=f"keras.applications.{constructor}",
        scaling=scaling,
        default_size=default_size,
        smallest_size=smallest_size,
        width=width,
        parameters=parameters,
        weights=("imagenet",),
        family=family,
        arguments=tuple(arguments.items()),
        note=note,
    )


_TORCHVISION = "https://download.pytorch.org/models/"
_SQUEEZENET = (
    "without the ReLU that torchvision has on the class scores: behind the "
    "average a linear head is that classifier but for it, and a class whose "
    "score is below zero could not learn"
)


_BASIC_RESNET = (
    "blocks of two 3x3 convolutions; unlike the ResNets of Keras without "
    "biases, and with torchvision's padding and epsilon"
)


def _torch_row(
    name: str,
    file: str,
    *,
    scaling: str = "torch",
    smallest_size: int,
    width: int,
    parameters: int,
    family: str,
    note: str = "",
) -> Backbone:
    """Returns the row of a network with torchvision's numbers.

    file: of its ImageNet weights; the name ends in the hash's first digits.
    """
    module = {"SqueezeNet": "squeezenet", "BasicResNet": "resnet"}
    home = module.get(family, family.lower())
    return Backbone(
        name=name,
        constructor=f"tlkeras.backbones.{home}.{name}",
        scaling=scaling,
        default_size=224,
        smallest_size=smallest_size,
        width=width,
        parameters=parameters,
        weights=("imagenet",),
        family=family,
        note=note,
        origin=_TORCHVISION + file,
        sha256=file.rpartition("-")[2].removesuffix(".pth"),
    )


# fmt: off
BACKBONES: tuple[Backbone, ...] = (
    # family, constructor, default size (pixels), width, parameters
    _row("VGG", "VGG16", 224, 512, 14_714_688),
    _row("VGG", "VGG19", 224, 512, 20_024_384),
    _row("ResNet", "ResNet50",  224, 2048, 23_587_712),
    _row("ResNet", "ResNet101", 224, 2048, 42_658_176),
    _row("ResNet", "ResNet152", 224, 2048, 58_370_944),
    _row("ResNetV2", "ResNet50V2",  224, 2048, 23_564_800),
    _row("ResNetV2", "ResNet101V2", 224, 2048, 42_626_560),
    _row("ResNetV2", "ResNet152V2", 224, 2048, 58_331_648),
    _row("InceptionV3", "InceptionV3", 299, 2048, 21_802_784),
    _row("InceptionResNetV2", "InceptionResNetV2", 299, 1536, 54_336_736),
    _row("Xception", "Xception", 299, 2048, 20_861_480),
    _row("DenseNet", "DenseNet121", 224, 1024,  7_037_504),
    _row("DenseNet", "DenseNet169", 224, 1664, 12_642_880),
    _row("DenseNet", "DenseNet201", 224, 1920, 18_321_984),
    _row("MobileNet", "MobileNet", 224,  256,   218_544, alpha=0.25),
    _row("MobileNet", "MobileNet", 224,  512,   829_536, alpha=0.5),
    _row("MobileNet", "MobileNet", 224,  768, 1_832_976, alpha=0.75),
    _row("MobileNet", "MobileNet", 224, 1024, 3_228_864),
    _row("MobileNetV2", "MobileNetV2", 224, 1280,   410_208, alpha=0.35),
    _row("MobileNetV2", "MobileNetV2", 224, 1280,   706_224, alpha=0.5),
    _row("MobileNetV2", "MobileNetV2", 224, 1280, 1_382_064, alpha=0.75),
    _row("MobileNetV2", "MobileNetV2", 224, 1280, 2_257_984),
    _row("MobileNetV2", "MobileNetV2", 224, 1664, 3_766_048, alpha=1.3),
    _row("MobileNetV2", "MobileNetV2", 224, 1792, 4_363_712, alpha=1.4),
    _row("MobileNetV3", "MobileNetV3Small", 224, 576,   939_120),
    _row("MobileNetV3", "MobileNetV3Large", 224, 960, 2_996_352),
    _row("NASNet", "NASNetMobile", 224, 1056,  4_269_716),
    _row("NASNet", "NASNetLarge",  331, 4032, 84_916_818),
    _row("EfficientNet", "EfficientNetB0", 224, 1280,  4_049_571),
    _row("EfficientNet", "EfficientNetB1", 240, 1280,  6_575_239),
    _row("EfficientNet", "EfficientNetB2", 260, 1408,  7_768_569),
    _row("EfficientNet", "EfficientNetB3", 300, 1536, 10_783_535),
    _row("EfficientNet", "EfficientNetB4", 380, 1792, 17_673_823),
    _row("EfficientNet", "EfficientNetB5", 456, 2048, 28_513_527),
    _row("EfficientNet", "EfficientNetB6", 528, 2304, 40_960_143),
    _row("EfficientNet", "EfficientNetB7", 600, 2560, 64_097_687),
    _row("EfficientNetV2", "EfficientNetV2B0", 224, 1280,   5_919_312),
    _row("EfficientNetV2", "EfficientNetV2B1", 240, 1280,   6_931_124),
    _row("EfficientNetV2", "EfficientNetV2B2", 260, 1408,   8_769_374),
    _row("EfficientNetV2", "EfficientNetV2B3", 300, 1536,  12_930_622),
    _row("EfficientNetV2", "EfficientNetV2S",  384, 1280,  20_331_360),
    _row("EfficientNetV2", "EfficientNetV2M",  480, 1280,  53_150_388),
    _row("EfficientNetV2", "EfficientNetV2L",  480, 1280, 117_746_848),
    _row("ConvNeXt", "ConvNeXtTiny",   224,  768,  27_820_128),
    _row("ConvNeXt", "ConvNeXtSmall",  224,  768,  49_454_688),
    _row("ConvNeXt", "ConvNeXtBase",   224, 1024,  87_566_464),
    _row("ConvNeXt", "ConvNeXtLarge",  224, 1536, 196_230_336),
    _row("ConvNeXt", "ConvNeXtXLarge", 224, 2048, 348_147_968),
    Backbone(
        name="SmallResNet",
        constructor="tlkeras.backbones.small.SmallResNet",
        scaling="tf",
        default_size=32,
        smallest_size=8,
        width=128,
        parameters=304_240,
        weights=(),
        family="SmallResNet",
    ),
    _torch_row(
        "AlexNet", "alexnet-owt-7be5be79.pth", smallest_size=63, width=4096,
        parameters=57_003_840, family="AlexNet",
        note="features of fc7, 94 % of all weights are in fc6 and fc7; their "
        "dropout belongs to the base; the map in front of them is averaged to "
        "6 x 6 at any size",
    ),
    _torch_row(
        "SqueezeNet1_0", "squeezenet1_0-b66bff10.pth", smallest_size=21,
        width=512, parameters=735_424, family="SqueezeNet", note=_SQUEEZENET,
    ),
    _torch_row(
        "SqueezeNet1_1", "squeezenet1_1-b8a52dc0.pth", smallest_size=17,
        width=512, parameters=722_496, family="SqueezeNet", note=_SQUEEZENET,
    ),
    Backbone(
        name="SqueezeNet1_1-keras",
        constructor="tlkeras.backbones.squeezenet.SqueezeNet1_1",
        scaling="caffe",
        default_size=227,
        smallest_size=31,
        width=512,
        parameters=722_496,
        weights=("imagenet",),
        family="SqueezeNetKeras",
        arguments=(("variant", "keras"),),
        note="as in the repository keras-squeezenet, whose weights come from "
        "Caffe: BGR minus the mean, and poolings that leave out a border "
        "narrower than a stride, which at 224 pixels there is not",
        origin="https://github.com/rcmalli/keras-squeezenet/releases/download/"
        "v1.0/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
        sha256="17154246284f555591549ac2c83e127abfbf4307dc4b0060fdaa2931d0fa38da",
    ),
    _torch_row(
        "GoogLeNet", "googlenet-1378be20.pth", scaling="tf", smallest_size=15,
        width=1024, parameters=5_614_464, family="GoogLeNet",
        note="a 3x3 convolution where the paper has 5x5, as torchvision's "
        "weights were trained; they came from TensorFlow, so that torchvision "
        "turns its own scaling back to [-1, 1] for them (transform_input)",
    ),
    _torch_row(
        "ResNet18", "resnet18-f37072fd.pth", smallest_size=1, width=512,
        parameters=11_186_112, family="BasicResNet", note=_BASIC_RESNET,
    ),
    _torch_row(
        "ResNet34", "resnet34-b627a593.pth", smallest_size=1, width=512,
        parameters=21_301_696, family="BasicResNet", note=_BASIC_RESNET,
    ),
)
# fmt: on


def find(name: str) -> Backbone:
    """Returns the row of `name`, whatever its case, `_` and `-`.

    Raises `UserError` for a name that no row has.
    """
    key = _key(name)
    if key in _ROWS:
        return _ROWS[key]
    # MobileNetV3 means one that begins so, not the closer MobileNetV2.
    likely = [known for known in _ROWS if key and known.startswith(key)]
    likely = likely or difflib.get_close_matches(key, _ROWS, n=1)
    meant = f"Did you mean {_ROWS[likely[0]].name}? " if likely else ""
    raise errors.UserError(
        f"`backbone` must be the name of a network. Received: {name!r}. "
        f"{meant}`tlkeras backbones` lists all."
    )


def names() -> tuple[str, ...]:
    """Returns the names of all networks, related ones side by side."""
    return tuple(row.name for row in BACKBONES)


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


_ROWS = {_key(row.name): row for row in BACKBONES}
