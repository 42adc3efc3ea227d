"""Where the networks of Keras divide: golden names, and differences of 0."""

import keras
import numpy as np
import pytest

from tlkeras import catalog
from tlkeras import graph
from tlkeras import model as models
from tlkeras.backbones import weights

# Name, side in pixels, number of block cuts, the last cut of each stage. All
# but the small ones are built only with -m slow.
STAGES = [
    (
        "SmallResNet",
        16,
        8,
        ("stage1_block1_out", "stage2_block1_out", "pool"),
    ),
    (
        "MobileNetV2-0.35",
        32,
        33,
        (
            "block_1_expand_relu",
            "block_3_expand_relu",
            "block_6_expand_relu",
            "block_13_expand_relu",
            "global_average_pooling2d",
        ),
    ),
    (
        "VGG16",
        32,
        19,
        (
            "block1_pool",
            "block2_pool",
            "block3_pool",
            "block4_pool",
            "global_average_pooling2d",
        ),
    ),
    (
        "EfficientNetB0",
        32,
        32,
        (
            "block2a_expand_activation",
            "block3a_expand_activation",
            "block4a_expand_activation",
            "block6a_expand_activation",
            "avg_pool",
        ),
    ),
    (
        "ResNet50V2",
        64,
        23,
        (
            "conv2_block2_out",
            "conv3_block3_out",
            "conv4_block5_out",
            "avg_pool",
        ),
    ),
    (
        "ResNet50",
        64,
        35,
        (
            "pool1_pool",
            "conv2_block3_out",
            "conv3_block4_out",
            "conv4_block6_out",
            "avg_pool",
        ),
    ),
    (
        "DenseNet121",
        32,
        68,
        ("pool1", "pool2_relu", "pool3_relu", "pool4_relu", "avg_pool"),
    ),
    (
        # Its unpadded convolutions nibble: 47, 45, 22, 20, 9 pixels.
        "InceptionV3",
        96,
        19,
        (
            "max_pooling2d",
            "max_pooling2d_1",
            "mixed2",
            "mixed7",
            "global_average_pooling2d",
        ),
    ),
    (
        # It adds with `+`, which is no layer.
        "ConvNeXtTiny",
        32,
        19,
        ("add_2", "add_5", "add_14", "global_average_pooling2d"),
    ),
]
FAST = 4
FAMILIES = [
    *STAGES[:FAST],
    *(pytest.param(*row, marks=pytest.mark.slow) for row in STAGES[FAST:]),
]


@pytest.fixture(scope="module", autouse=True)
def cleared():
    """Layers without a name of their own are numbered from zero again."""
    networks.clear()
    yield
    networks.clear()


networks: dict[tuple[str, int], keras.Model] = {}


def network(name: str, size: int) -> keras.Model:
    if (name, size) not in networks:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        made = weights.network(catalog.find(name), size, "none")
        networks[name, size] = made
    return networks[name, size]


def pixels(size: int, images: int = 2) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(images, size, size, 3)).astype("float32")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name, size, count, ends", FAMILIES)
class TestFamilies:
    def test_cuts_and_stages(self, name, size, count, ends):
        cuts = graph.block_cuts(network(name, size))
        assert len(cuts) == count
        stages = graph.stages(network(name, size))
        assert tuple(stage.end.layer for stage in stages) == ends
        assert [stage.begin for stage in stages] == [
            None,
            *(stage.end for stage in stages[:-1]),
        ]

    def test_below_grows(self, name, size, count, ends):
        cuts = graph.block_cuts(network(name, size))
        for lower, higher in zip(cuts, cuts[1:], strict=False):
            assert lower.below < higher.below
        names = {each.name for each in network(name, size).operations}
        # ConvNeXt normalizes behind its pooling, which ends no block.
        assert names - cuts[-1].below <= {"layer_normalization"}
        assert cuts[-1].below <= names

    def test_parts_agree_with_the_whole(self, name, size, count, ends):
        whole = network(name, size)
        cuts = graph.block_cuts(whole)
        wanted = np.asarray(whole(pixels(size), training=False))
        assert wanted.any()
        for cut in (cuts[0], cuts[len(cuts) // 2], cuts[-2]):
            prefix, suffix = graph.split(whole, cut)
            middle = prefix(pixels(size), training=False)
            assert tuple(middle.shape[1:]) == cut.shape
            found = np.asarray(suffix(middle, training=False))
            assert np.abs(found - wanted).max() == 0.0

    def test_parts_share_the_weights(self, name, size, count, ends):
        whole = network(name, size)
        cuts = graph.block_cuts(whole)
        prefix, suffix = graph.split(whole, cuts[len(cuts) // 2])
        shared = [id(each) for each in prefix.weights + suffix.weights]
        assert sorted(shared) == sorted(id(each) for each in whole.weights)


class TestSplit:
    def test_is_made_once(self):
        whole = network("SmallResNet", 16)
        cut = graph.block_cuts(whole)[2]
        first = graph.split(whole, cut)
        nodes = [len(layer._inbound_nodes) for layer in whole.layers]
        again = graph.split(whole, graph.block_cuts(whole)[2])
        assert first[0] is again[0] and first[1] is again[1]
        assert nodes == [len(layer._inbound_nodes) for layer in whole.layers]

    def test_does_not_change_the_cuts(self):
        whole = network("SmallResNet", 16)
        before = [cut.layer for cut in graph.block_cuts(whole)]
        graph.split(whole, graph.block_cuts(whole)[3])
        assert [cut.layer for cut in graph.block_cuts(whole)] == before

    def test_a_suffix_can_be_cut_again(self):
        whole = network("SmallResNet", 16)
        cuts = graph.block_cuts(whole)
        _, suffix = graph.split(whole, cuts[2])
        assert [cut.layer for cut in graph.block_cuts(suffix)] == [
            cut.layer for cut in cuts[3:]
        ]


class TestCuts:
    def test_none_between_convolution_and_batch_norm(self):
        names = {cut.layer for cut in graph.block_cuts(network("VGG16", 32))}
        assert "block1_conv1" in names
        names = {
            cut.layer for cut in graph.block_cuts(network("SmallResNet", 16))
        }
        assert "stem_conv" not in names and "stem_bn" not in names

    def test_a_linear_bottleneck_ends_in_batch_norm(self):
        cuts = graph.block_cuts(network("MobileNetV2-0.35", 32))
        names = {cut.layer for cut in cuts}
        assert "block_1_project_BN" in names
        assert "block_2_project_BN" not in names, "it goes into an addition"

    def test_a_tensor_used_twice(self):
        entry = keras.Input((4,))
        x = keras.layers.Dense(4, "relu", name="below")(entry)
        x = keras.layers.Multiply(name="square")([x, x])
        x = keras.layers.Dense(2, "relu", name="above")(x)
        cuts = graph.block_cuts(keras.Model(entry, x))
        assert [cut.layer for cut in cuts] == ["below", "above"]


class TestNasnet:
    """It has cuts only with two live tensors, but for the very end."""

    @pytest.fixture(scope="class")
    def nasnet(self):
        return weights.network(catalog.find("NASNetMobile"), 32, "none")

    def test_is_one_stage(self, nasnet):
        (stage,) = graph.stages(nasnet)
        assert stage.begin is None
        assert models.find_cut(nasnet, "stages:1") == (None, "stages:1")

    def test_has_no_second_one(self, nasnet):
        with pytest.raises(ValueError, match="at most 1 for nasnet_mobile"):
            models.find_cut(nasnet, "stages:2")

    def test_unfreezes_from_the_start_of_the_block_that_is_all(self, nasnet):
        name = "normal_conv_1_12"
        assert models.find_cut(nasnet, f"from:{name}") == (None, "all")
