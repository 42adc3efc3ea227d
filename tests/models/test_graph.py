"""Where the networks of Keras divide: golden names, and differences of 0."""

import gc
import time
import weakref

import keras
import numpy as np
import pytest
import tiny

import tlkeras
from tlkeras import errors
from tlkeras import records
from tlkeras.backbones import base as bases
from tlkeras.backbones import catalog
from tlkeras.backbones import weights
from tlkeras.models import classifier as classifiers
from tlkeras.models import graph
from tlkeras.training import phase as one_phase
from tlkeras.training import setup as setups

# Name, side in pixels, number of block cuts, the last cut of each stage. All
# but the tiny ones are built only with -m slow.
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
        "SqueezeNet1_1",
        33,
        21,
        ("pool1", "pool3", "pool5", "pool"),
    ),
    (
        "GoogLeNet",
        33,
        17,
        ("pool1", "pool2", "pool3", "pool4", "pool"),
    ),
    (
        "ResNet18",
        33,
        19,
        (
            "pool1",
            "conv2_block2_out",
            "conv3_block2_out",
            "conv4_block2_out",
            "pool",
        ),
    ),
    (
        # Averages a map of 3 x 3 to 6 x 6; its dense layers are a stage.
        "AlexNet",
        127,
        12,
        ("pool1", "pool2", "pool_columns", "fc7"),
    ),
    (
        "SqueezeNet1_1-keras",
        47,
        21,
        ("pool1", "pool3", "pool5", "pool"),
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
    (
        "MobileNet-0.25",
        32,
        28,
        (
            "conv_pw_1_relu",
            "conv_pw_3_relu",
            "conv_pw_5_relu",
            "conv_pw_11_relu",
            "global_average_pooling2d",
        ),
    ),
    (
        "MobileNetV3Small",
        32,
        23,
        ("activation", "re_lu_2", "activation_1", "activation_11", "avg_pool"),
    ),
    (
        "EfficientNetV2B0",
        32,
        32,
        (
            "block1a_project_activation",
            "block2b_add",
            "block4a_expand_activation",
            "block6a_expand_activation",
            "avg_pool",
        ),
    ),
    (
        "EfficientNetLite0",
        32,
        32,
        (
            "block2a_expand_relu",
            "block3a_expand_relu",
            "block4a_expand_relu",
            "block6a_expand_relu",
            "pool",
        ),
    ),
    (
        "ResNet50-torchvision",
        32,
        35,
        (
            "pool1",
            "conv2_block3_out",
            "conv3_block4_out",
            "conv4_block6_out",
            "pool",
        ),
    ),
    (
        "Xception",
        71,
        17,
        (
            "block1_conv2_act",
            "add",
            "add_1",
            "add_10",
            "global_average_pooling2d",
        ),
    ),
    (
        "InceptionResNetV2",
        75,
        51,
        (
            "max_pooling2d",
            "max_pooling2d_1",
            "block35_10_ac",
            "block17_20_ac",
            "global_average_pooling2d",
        ),
    ),
    (
        # Its cuts go through two tensors, but for the last three.
        "NASNetMobile",
        32,
        17,
        ("normal_concat_3", "normal_concat_8", "global_average_pooling2d"),
    ),
]
FAST = 3
FAMILIES = [
    *(pytest.param(*row, id=row[0]) for row in STAGES[:FAST]),
    *(
        pytest.param(*row, id=row[0], marks=pytest.mark.slow)
        for row in STAGES[FAST:]
    ),
]

# All block cuts; those of Keras' as they were before two tensors made one.
CUTS = [
    pytest.param(
        "SmallResNet",
        16,
        "stem_relu stage1_block1_add stage1_block1_out stage2_block1_add "
        "stage2_block1_out stage3_block1_add stage3_block1_out pool",
        id="SmallResNet",
    ),
    pytest.param(
        "MobileNetV2-0.35",
        32,
        "Conv1_relu expanded_conv_depthwise_relu expanded_conv_project_BN "
        "block_1_expand_relu block_1_depthwise_relu block_1_project_BN "
        "block_2_add block_3_expand_relu block_3_depthwise_relu "
        "block_3_project_BN block_4_add block_5_add block_6_expand_relu "
        "block_6_depthwise_relu block_6_project_BN block_7_add block_8_add "
        "block_9_add block_10_expand_relu block_10_depthwise_relu "
        "block_10_project_BN block_11_add block_12_add block_13_expand_relu "
        "block_13_depthwise_relu block_13_project_BN block_14_add "
        "block_15_add block_16_expand_relu block_16_depthwise_relu "
        "block_16_project_BN out_relu global_average_pooling2d",
        id="MobileNetV2-0.35",
    ),
    pytest.param(
        "SqueezeNet1_1",
        33,
        "conv1 pool1 fire2_squeeze1x1 fire2_concat fire3_squeeze1x1 "
        "fire3_concat pool3 fire4_squeeze1x1 fire4_concat fire5_squeeze1x1 "
        "fire5_concat pool5 fire6_squeeze1x1 fire6_concat fire7_squeeze1x1 "
        "fire7_concat fire8_squeeze1x1 fire8_concat fire9_squeeze1x1 "
        "fire9_concat pool",
        id="SqueezeNet1_1",
    ),
    pytest.param(
        "AlexNet",
        127,
        "conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5 pool_rows "
        "pool_columns fc6 fc7",
        id="AlexNet",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "GoogLeNet",
        33,
        "conv1_relu pool1 conv2_relu conv3_relu pool2 inception3a_concat "
        "inception3b_concat pool3 inception4a_concat inception4b_concat "
        "inception4c_concat inception4d_concat inception4e_concat pool4 "
        "inception5a_concat inception5b_concat pool",
        id="GoogLeNet",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        # Squeeze-and-excitation holds pixels and one mean of them.
        "MobileNetV3Small",
        32,
        "activation re_lu expanded_conv_project_bn re_lu_2 re_lu_3 "
        "expanded_conv_1_project_bn expanded_conv_2_add activation_1 "
        "activation_2 expanded_conv_3_project_bn expanded_conv_4_add "
        "expanded_conv_5_add activation_7 activation_8 "
        "expanded_conv_6_project_bn expanded_conv_7_add activation_11 "
        "activation_12 expanded_conv_8_project_bn expanded_conv_9_add "
        "expanded_conv_10_add activation_17 avg_pool",
        id="MobileNetV3Small",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "ResNet50V2",
        64,
        "pool1_pool conv2_block1_preact_relu conv2_block1_out "
        "conv2_block2_out conv2_block3_out conv3_block1_preact_relu "
        "conv3_block1_out conv3_block2_out conv3_block3_out conv3_block4_out "
        "conv4_block1_preact_relu conv4_block1_out conv4_block2_out "
        "conv4_block3_out conv4_block4_out conv4_block5_out conv4_block6_out "
        "conv5_block1_preact_relu conv5_block1_out conv5_block2_out "
        "conv5_block3_out post_relu avg_pool",
        id="ResNet50V2",
        marks=pytest.mark.slow,
    ),
]


@pytest.fixture(scope="module", autouse=True)
def cleared():
    """Layers without a name of their own are numbered from zero again."""
    networks.clear()
    yield
    networks.clear()


networks: dict[tuple[str, int], keras.Model] = {}


def network(name: str, size: int) -> keras.Model:
    """Returns a random network in which no layer does nothing.

    Fresh BatchNorm passes what it gets, and ConvNeXt's blocks add a millionth.
    """
    if (name, size) not in networks:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        made = weights.network(catalog.find(name), size, "none")
        generator = np.random.default_rng(0)
        for variable in made.variables:
            if len(variable.shape) == 1 and "seed" not in variable.path:
                noise = generator.uniform(-0.2, 0.2, variable.shape)
                variable.assign(variable + noise)
        networks[name, size] = made
    return networks[name, size]


def pixels(size: int, images: int = 2) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(images, size, size, 3)).astype("float32")


def chosen(whole: keras.Model) -> list[graph.Cut]:
    """Returns some cuts over the depth: ends, middle, borders of stages."""
    cuts = graph.block_cuts(whole)
    borders = [stage.end for stage in graph.stages(whole)]
    return [
        cut
        for cut in cuts
        if cut in (cuts[0], cuts[len(cuts) // 2], cuts[-2], *borders)
    ]


def call(model: keras.Model, inputs: object) -> np.ndarray:
    return np.asarray(model(inputs, training=False))


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
        assert [stage.cuts[-1] for stage in stages] == [
            stage.end for stage in stages
        ]
        assert sum((stage.cuts for stage in stages), ()) == cuts

    def test_only_nasnet_has_cuts_through_two_tensors(
        self, name, size, count, ends
    ):
        cuts = graph.block_cuts(network(name, size))
        double = sum(len(cut.tensors) > 1 for cut in cuts)
        assert double == (14 if name == "NASNetMobile" else 0)

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
        images = pixels(size, 3)
        wanted = call(whole, images)
        assert np.isfinite(wanted).all() and wanted.std() > 0
        for cut in chosen(whole):
            prefix, suffix = graph.split(whole, cut)
            middle = prefix(images, training=False)
            assert isinstance(middle, list) == (len(cut.shapes) > 1)
            tensors = middle if isinstance(middle, list) else [middle]
            assert [tuple(each.shape[1:]) for each in tensors] == list(
                cut.shapes
            )
            assert cut.image_bytes() == sum(
                np.asarray(each[0]).nbytes for each in tensors
            )
            assert np.abs(call(suffix, middle) - wanted).max() == 0.0

    def test_parts_agree_at_another_batch_size(self, name, size, count, ends):
        whole = network(name, size)
        images = pixels(size, 3)
        wanted = call(whole, images)
        for cut in chosen(whole):
            prefix, suffix = graph.split(whole, cut)
            middle = prefix(images[:2], training=False)
            tensors = middle if isinstance(middle, list) else [middle]
            for index in range(2):
                one = [each[index : index + 1] for each in tensors]
                found = call(suffix, one if len(one) > 1 else one[0])
                difference = np.abs(found - wanted[index : index + 1])
                assert difference.max() <= 1e-5 * np.abs(wanted).max()

    def test_parts_share_the_weights(self, name, size, count, ends):
        whole = network(name, size)
        for cut in chosen(whole):
            prefix, suffix = graph.split(whole, cut)
            shared = [id(each) for each in prefix.weights + suffix.weights]
            assert sorted(shared) == sorted(id(each) for each in whole.weights)
            names = {layer.name for layer in prefix.layers if layer.weights}
            assert names <= cut.below

    @pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="takes its gradients"
    )
    def test_gradients_are_those_of_the_whole(self, name, size, count, ends):
        whole = network(name, size)
        images = pixels(size, 3)
        wanted = gradients(whole, images, whole.trainable_variables)
        for cut in chosen(whole):
            prefix, suffix = graph.split(whole, cut)
            variables = suffix.trainable_variables
            middle = prefix(images, training=False)
            found = gradients(suffix, middle, variables)
            assert found.keys() <= wanted.keys()
            for key in found:
                np.testing.assert_array_equal(found[key], wanted[key])


def gradients(
    model: keras.Model, inputs: object, variables: list[keras.Variable]
) -> dict[int, np.ndarray]:
    """Returns the gradients of a random sum of the features, by variable."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        features = model(inputs, training=False)
        mix = np.random.default_rng(0).normal(size=features.shape)
        loss = tf.reduce_sum(features * tf.cast(mix, features.dtype))
    found = tape.gradient(loss, [variable.value for variable in variables])
    return {
        id(variable): np.asarray(gradient)
        for variable, gradient in zip(variables, found, strict=True)
    }


@pytest.mark.parametrize("name, size, layers", CUTS)
def test_cuts(name, size, layers):
    cuts = graph.block_cuts(network(name, size))
    assert [cut.layer for cut in cuts] == layers.split()


def test_every_family_is_tried():
    families = {catalog.find(row[0]).family for row in STAGES}
    assert families == {row.family for row in catalog.BACKBONES}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["InceptionResNetV2", "NASNetMobile"])
def test_takes_less_than_a_second(name):
    # 15 ms each for the largest of all, NASNetLarge with 1,040 operations.
    whole = network(name, 75 if name == "InceptionResNetV2" else 32)
    began = time.perf_counter()
    graph.block_cuts(whole)
    graph.stages(whole)
    assert time.perf_counter() - began < 1


class TestSplit:
    def test_is_made_once(self):
        whole = network("SmallResNet", 16)
        cut = graph.block_cuts(whole)[2]
        first = graph.split(whole, cut)
        nodes = [len(layer._inbound_nodes) for layer in whole.layers]
        again = graph.split(whole, graph.block_cuts(whole)[2])
        assert first[0] is again[0] and first[1] is again[1]
        assert nodes == [len(layer._inbound_nodes) for layer in whole.layers]

    def test_behind_the_output_nothing_is_left(self):
        whole = network("SmallResNet", 16)
        prefix, suffix = graph.split(whole, graph.block_cuts(whole)[-1])
        features = call(prefix, pixels(16))
        assert np.array_equal(features, call(whole, pixels(16)))
        assert np.array_equal(call(suffix, features), features)
        assert not suffix.weights

    def test_is_forgotten_with_the_network(self):
        whole = tiny.network()
        graph.split(whole, graph.block_cuts(whole)[0])
        known = weakref.ref(whole)
        del whole
        gc.collect()
        assert known() is None

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
        names = {
            cut.layer for cut in graph.block_cuts(network("SmallResNet", 16))
        }
        assert "stem_conv" not in names and "stem_bn" not in names

    def test_a_linear_bottleneck_ends_in_batch_norm(self):
        cuts = graph.block_cuts(network("MobileNetV2-0.35", 32))
        names = {cut.layer for cut in cuts}
        assert "block_1_project_BN" in names
        assert "block_2_project_BN" not in names, "it goes into an addition"

    def test_none_between_two_calls_of_a_layer(self):
        entry = keras.Input((4,))
        shared = keras.layers.Dense(4, "relu", name="shared")
        x = keras.layers.Dense(4, "relu", name="below")(entry)
        x = keras.layers.Dense(4, "relu", name="between")(shared(x))
        x = keras.layers.Dense(4, "relu", name="above")(shared(x))
        cuts = graph.block_cuts(keras.Model(entry, x))
        assert [cut.layer for cut in cuts] == ["below", "shared", "above"]

    def test_an_open_size_is_refused(self):
        images = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(2, 3, activation="relu")(images)
        with pytest.raises(ValueError, match="must have a fixed image size"):
            graph.block_cuts(keras.Model(images, x))

    def test_none_before_all_inputs_are_there(self):
        left, right = (keras.Input((4,), name=name) for name in "lr")
        x = keras.layers.Dense(3, "relu", name="early")(left)
        x = keras.layers.Concatenate(name="both")([x, right])
        cuts = graph.block_cuts(keras.Model([left, right], x))
        assert [cut.layer for cut in cuts] == ["both"]

    def test_a_tensor_used_twice(self):
        entry = keras.Input((4,))
        x = keras.layers.Dense(4, "relu", name="below")(entry)
        x = keras.layers.Multiply(name="square")([x, x])
        x = keras.layers.Dense(2, "relu", name="above")(x)
        cuts = graph.block_cuts(keras.Model(entry, x))
        assert [cut.layer for cut in cuts] == ["below", "above"]


def cells(sides: tuple[int, ...]) -> keras.Model:
    """A little NASNet: each cell adds what the two before it gave."""
    images = keras.Input((sides[0], sides[0], 3))
    older = newer = keras.layers.Conv2D(4, 3, padding="same", name="stem")(
        images
    )
    for number, side in enumerate(sides):
        parts = []
        for kind, x in (("older", older), ("newer", newer)):
            parts.append(
                keras.layers.Conv2D(
                    4,
                    3,
                    strides=x.shape[1] // side,
                    padding="same",
                    activation="relu",
                    name=f"{kind}{number}",
                )(x)
            )
        older = newer
        newer = keras.layers.Add(name=f"cell{number}")(parts)
    x = keras.layers.Concatenate(name="both")([parts[0], newer])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, x, name="cells")


class TestTwoTensors:
    @pytest.fixture(scope="class")
    def whole(self):
        return cells((16, 16, 8, 8, 4))

    def test_are_cut_where_a_resolution_has_no_other(self, whole):
        cuts = graph.block_cuts(whole)
        assert [(cut.layer, cut.shapes) for cut in cuts] == [
            ("cell1", ((16, 16, 4), (16, 16, 4))),
            ("cell2", ((16, 16, 4), (8, 8, 4))),
            ("cell3", ((8, 8, 4), (8, 8, 4))),
            ("both", ((4, 4, 8),)),
            ("pool", ((8,),)),
        ]
        assert [stage.end.layer for stage in graph.stages(whole)] == [
            "cell1",
            "cell3",
            "pool",
        ]

    def test_are_not_cut_where_every_resolution_has_another(self):
        cuts = graph.block_cuts(cells((16, 16, 8, 8)))
        assert [cut.layer for cut in cuts] == ["both", "pool"]

    def test_parts_agree_with_the_whole(self, whole):
        images = pixels(16)
        for cut in graph.block_cuts(whole):
            prefix, suffix = graph.split(whole, cut)
            found = call(suffix, prefix(images, training=False))
            assert np.array_equal(found, call(whole, images))
            assert graph.split(whole, cut)[1] is suffix

    def test_suffix_trains_on_stored_tensors(self, whole):
        import tensorflow as tf

        cut = graph.block_cuts(whole)[1]
        prefix, suffix = graph.split(whole, cut)
        stored = tuple(prefix.predict(pixels(16), verbose=0))
        suffix.compile("sgd", "mse")
        before = np.array(whole.get_layer("older4").kernel)
        data = tf.data.Dataset.from_tensor_slices((stored, np.ones((2, 8))))
        suffix.fit(data.batch(2), verbose=0, shuffle=False)
        assert not np.array_equal(before, whole.get_layer("older4").kernel)

    def test_suffix_can_be_cut_again(self, whole):
        _, suffix = graph.split(whole, graph.block_cuts(whole)[0])
        # cell2 and an input are no cut: the input leaves no addition.
        assert [cut.layer for cut in graph.block_cuts(suffix)] == [
            "cell3",
            "both",
            "pool",
        ]

    def test_image_bytes(self, whole):
        cut = graph.block_cuts(whole)[1]
        assert cut.image_bytes() == 4 * (16 * 16 * 4 + 8 * 8 * 4)
        assert cut.image_bytes(itemsize=2) == cut.image_bytes() // 2


@pytest.mark.slow
class TestNasnet:
    @pytest.fixture(scope="class")
    def nasnet(self):
        return network("NASNetMobile", 32)

    def test_cuts(self, nasnet):
        cuts = graph.block_cuts(nasnet)
        assert [cut.layer for cut in cuts] == [
            "reduction_concat_stem_2",
            *(f"normal_concat_{cell}" for cell in range(4)),
            "reduction_concat_reduce_4",
            *(f"normal_concat_{cell}" for cell in range(5, 9)),
            "reduction_concat_reduce_8",
            *(f"normal_concat_{cell}" for cell in range(9, 13)),
            "activation_187",
            "global_average_pooling2d",
        ]

    def test_has_three_stages(self, nasnet):
        _, snapped = graph.find_cut(nasnet, "stages:3")
        assert snapped == "stages:3"
        cut, _ = graph.find_cut(nasnet, "stages:2")
        assert cut.layer == "normal_concat_3"
        cut, _ = graph.find_cut(nasnet, "stages:1")
        assert cut.layer == "normal_concat_8"
        assert cut.shapes == ((2, 2, 528), (2, 2, 528))
        with pytest.raises(ValueError, match="at most 3 for nasnet_mobile"):
            graph.find_cut(nasnet, "stages:4")

    def test_unfreezes_from_the_start_of_a_cell(self, nasnet):
        cut, exact = graph.find_cut(nasnet, "from:normal_conv_1_12")
        assert cut.layer == "normal_concat_11"
        assert exact == "from:activation_175"

    def test_every_answer_is_a_fixed_point(self, nasnet):
        for layer in nasnet.layers[::7]:
            cut, exact = graph.find_cut(nasnet, f"from:{layer.name}")
            assert graph.find_cut(nasnet, exact) == (cut, exact)
            assert cut is None or layer.name not in cut.below

    @pytest.mark.parametrize("batch_norm", ["frozen", "training"])
    def test_its_last_stage_learns(self, batch_norm):
        model = classifiers.build_classifier(
            3, backbone="NASNetMobile", weights="none", image_size=32
        )
        inside = bases.of(model).network
        cut, _ = graph.find_cut(inside, "stages:1")
        before = {each.path: np.array(each) for each in inside.variables}
        phase = records.Phase(
            "last", "stages:1", 3, 1e-3, batch_norm=batch_norm
        )
        one_phase.fit(
            model,
            phase,
            tiny.feed(8, size=32),
            setups.Setup(tiny.QUIET),
        )
        moved = {
            each.path
            for each in inside.variables
            if not np.array_equal(before[each.path], each)
        }
        assert moved
        assert not [path for path in moved if path.split("/")[0] in cut.below]
        held = not any("moving" in path for path in moved)
        assert held == (batch_norm == "frozen")


class TestDescription:
    """What a network computes, told apart by what matters alone."""

    def test_names_do_not_count(self):
        texts = set()
        for _ in range(2):
            row = catalog.find("SmallResNet")
            texts.add(graph.describe(weights.network(row, 16, "none")))
        assert len(texts) == 1

    def test_a_part_is_another_than_the_whole(self):
        network = tiny.network()
        (cut, *_) = graph.block_cuts(network)
        lower, upper = graph.split(network, cut)
        assert (
            len({graph.describe(each) for each in (network, lower, upper)}) == 3
        )

    def test_settings_and_wiring_count(self):
        def network(filters=4, swapped=False):
            images = keras.Input((8, 8, 3))
            one = keras.layers.Conv2D(filters, 3)(images)
            other = keras.layers.Conv2D(filters, 3, activation="relu")(images)
            pair = [other, one] if swapped else [one, other]
            return keras.Model(images, keras.layers.Subtract()(pair))

        described = [
            graph.describe(network()),
            graph.describe(network(filters=5)),
            graph.describe(network(swapped=True)),
        ]
        assert len(set(described)) == 3
        assert graph.describe(network()) == described[0]


class TestPublic:
    def test_a_cut_of_the_list_divides(self):
        whole = network("MobileNetV2-0.35", 32)
        for cut in tlkeras.cuts(whole)[::7]:
            prefix, suffix = tlkeras.split(whole, cut)
            assert graph.split(whole, cut) == (prefix, suffix)

    @pytest.mark.parametrize("what", ["stages:1", "from:stage3_block1_2_conv"])
    def test_a_stage_or_a_layer_divides(self, what):
        small = network("SmallResNet", 16)
        cut, _ = graph.find_cut(small, what)
        assert tlkeras.split(small, what) == graph.split(small, cut)

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("stages:9", "at most 3"),
            ("from:stage3_block", "must name a layer"),
            ("all", "leaves nothing of small_resnet below"),
            ("stages:3", "leaves nothing of small_resnet below"),
        ],
    )
    def test_what_cannot_divide_is_said(self, what, message):
        with pytest.raises(errors.UserError, match=message):
            tlkeras.split(network("SmallResNet", 16), what)

    def test_a_network_without_cuts_has_no_stages(self):
        images = keras.Input((8, 8, 3))
        plain = keras.Model(images, keras.layers.Conv2D(4, 3)(images))
        assert tlkeras.cuts(plain) == graph.stages(plain) == ()
        with pytest.raises(errors.UserError, match="at most 0"):
            tlkeras.split(plain, "stages:1")
