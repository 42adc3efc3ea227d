"""Equal weights give equal numbers in torchvision's networks and in ours."""

import json

import keras
import numpy as np
import parity
import pytest

from tlkeras import errors
from tlkeras.backbones import catalog
from tlkeras.backbones import torch_weights as mapping
from tlkeras.backbones import weights

# DESIGN.md, section 7: torchvision's own counts, with 1,000 classes.
PARAMETERS = {
    "AlexNet": 61_100_840,
    "SqueezeNet1_0": 1_248_424,
    "SqueezeNet1_1": 1_235_496,
    "GoogLeNet": 6_624_904,
    "ResNet18": 11_689_512,
    "ResNet34": 21_797_672,
    # He et al.'s, and torchvision's own table.
    "ResNet50-torchvision": 25_557_032,
}
# Of the largest logit; what is left is rounding.
TOLERANCE = 1e-4


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            name,
            # ResNet18 is of the same blocks as ResNet34.
            marks=pytest.mark.slow if name[6:8] in ("34", "50") else (),
        )
        for name in parity.NETWORKS
    ],
)
def ours(request):
    """A network of ours with drawn weights: name, network, the weights."""
    keras.backend.clear_session()
    made = parity.whole(request.param, parity.SIZES[0])
    drawn = parity.draw(made, request.param)
    mapping.assign(made, request.param, drawn, "drawn")
    return request.param, made, drawn


@pytest.fixture(scope="module")
def odd(ours):
    """The same for images of the odd size."""
    name, made, _ = ours
    other = parity.whole(name, parity.SIZES[1])
    other.set_weights(made.get_weights())
    return other


@pytest.fixture(scope="module")
def base(ours):
    """The same network without its classifier, filled by the table."""
    name, _, drawn = ours
    made = weights.network(catalog.find(name), 97, "none")
    aux = {"aux1.fc1.weight": np.ones((2, 2)), "x.num_batches_tracked": 1}
    mapping.assign(made, name, {**drawn, **aux}, "drawn")
    return made


def logits(ours, odd, size: int) -> np.ndarray:
    """Returns what our network computes at this size, [1,000]."""
    made = ours[1] if size == parity.SIZES[0] else odd
    return np.asarray(made(parity.images(size), training=False))[0]


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return np.abs(found - wanted).max() / np.abs(wanted).max()


class TestWhole:
    @pytest.mark.parametrize("size", parity.SIZES)
    def test_logits_are_the_golden_ones(self, ours, odd, size):
        golden = json.loads(parity.GOLDEN.read_text())[ours[0]][str(size)]
        wanted = np.array(golden)
        # Logits that were all alike would hide a mistake.
        assert wanted.std() > 0.1 * np.abs(wanted).max()
        found = logits(ours, odd, size)[:: parity.STEP]
        assert distance(found, wanted) < TOLERANCE

    def test_has_as_many_parameters_as_torchvisions(self, ours):
        name, made, _ = ours
        counts = [variable.shape for variable in made.trainable_variables]
        assert sum(map(np.prod, counts)) == PARAMETERS[name]

    def test_is_of_layers_that_keras_opens_alone(self, odd):
        modules = {type(layer).__module__ for layer in odd.layers}
        assert all(module.startswith("keras.") for module in modules)

    def test_its_weights_have_one_order_at_any_size(self, ours, odd, base):
        paths = [weight.path for weight in ours[1].weights]
        assert [weight.path for weight in odd.weights] == paths
        found = [weight.path for weight in base.weights]
        assert found == paths[: len(found)]


class TestTable:
    def test_has_each_array_of_ours_once(self, ours):
        name, made, _ = ours
        rows = mapping.table(name)
        paths = [variable.path for variable in made.weights]
        assert sorted(row.keras for row in rows) == sorted(paths)
        assert len({row.torch for row in rows}) == len(rows)

    def test_marks_what_a_base_is_without(self, ours, base):
        paths = {variable.path for variable in base.weights}
        *others, kernel, bias = mapping.table(ours[0])
        assert {entry.keras for entry in others} == paths
        assert paths.isdisjoint({kernel.keras, bias.keras})

    def test_fills_a_base(self, ours, base):
        wanted = {each.path: each for each in ours[1].weights}
        for variable in base.weights:
            np.testing.assert_array_equal(variable, wanted[variable.path])

    def test_of_another_network(self):
        with pytest.raises(errors.UserError, match="do not fit Xception"):
            mapping.table("Xception")


class TestMisfit:
    @pytest.fixture(scope="class")
    def made(self):
        return weights.network(catalog.find("SqueezeNet1_1"), 32, "none")

    @pytest.mark.parametrize(
        "change, message",
        [
            (
                {"features.0.weight": None},
                r"layer conv1/kernel needs \(3, 3, 3, 64\), the file has no "
                "layer features.0.weight",
            ),
            (
                {"features.0.weight": np.ones((96, 3, 7, 7))},
                r"conv1/kernel needs \(3, 3, 3, 64\), .* features.0.weight has "
                r"\(96, 3, 7, 7\), which should be \(64, 3, 3, 3\)",
            ),
            (
                {"layer1.0.conv1.weight": np.ones((1, 2))},
                r"layer1.0.conv1.weight of \(1, 2\) has no place",
            ),
        ],
    )
    def test_names_layer_and_shapes(self, made, change, message):
        drawn = parity.draw(parity.whole("SqueezeNet1_1", 32), "SqueezeNet1_1")
        before = made.get_weights()
        changed = {
            key: array
            for key, array in {**drawn, **change}.items()
            if array is not None
        }
        with pytest.raises(errors.UserError, match=message) as caught:
            mapping.assign(made, "SqueezeNet1_1", changed, "some.pth")
        assert "some.pth do not fit squeezenet1_1" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert all(map(np.array_equal, made.get_weights(), before))


@pytest.mark.torch
class TestTorchvision:
    """What the golden file and the table rest on."""

    @pytest.fixture(scope="class")
    def theirs(self, ours):
        name, _, drawn = ours
        return parity.filled(name, drawn)

    @pytest.mark.parametrize("size", parity.SIZES)
    def test_all_logits_agree(self, ours, odd, theirs, size):
        wanted = parity.their_logits(theirs, parity.images(size))[0]
        assert distance(logits(ours, odd, size), wanted) < TOLERANCE
        golden = json.loads(parity.GOLDEN.read_text())[ours[0]][str(size)]
        found = wanted[:: parity.STEP]
        assert distance(found, np.array(golden)) < TOLERANCE

    def test_the_table_has_each_array_of_theirs_once(self, ours, theirs):
        names = [
            name
            for name in theirs.state_dict()
            if not name.endswith("num_batches_tracked")
        ]
        rows = mapping.table(ours[0])
        assert sorted(row.torch for row in rows) == sorted(names)

    @pytest.mark.parametrize("wrapper", [None, "model"])
    def test_a_file_of_theirs_fills_a_base(
        self, ours, theirs, tmp_path, wrapper
    ):
        import torch

        name, made, _ = ours
        state = theirs.state_dict()
        path = tmp_path / "some.pth"
        torch.save({wrapper: state} if wrapper else state, path)
        base = weights.network(catalog.find(name), 97, str(path))
        wanted = {each.path: each for each in made.weights}
        for variable in base.weights:
            np.testing.assert_array_equal(variable, wanted[variable.path])

    def test_weights_come_from_where_theirs_do(self, ours):
        parity.theirs("ResNet18")
        from torchvision import models

        row = catalog.find(ours[0])
        known = models.get_model_weights(parity.NETWORKS[ours[0]])
        assert row.origin == known.DEFAULT.url
        assert row.sha256 in row.origin

    def test_googlenet_scales_to_one_for_its_weights(self):
        # torchvision's own file of it switches this on.
        drawn = parity.draw(parity.whole("GoogLeNet", 97), "GoogLeNet")
        network = parity.filled("GoogLeNet", drawn, transform_input=True)
        pixels = np.random.default_rng(0).uniform(0, 255, (1, 97, 97, 3))
        pixels = pixels.astype(np.float32)
        scale = keras.applications.imagenet_utils.preprocess_input
        wanted = parity.their_logits(
            network, scale(pixels.copy(), mode="torch")
        )
        made = parity.whole("GoogLeNet", 97)
        mapping.assign(made, "GoogLeNet", drawn, "drawn")
        mode = catalog.find("GoogLeNet").scaling
        found = np.asarray(made(scale(pixels.copy(), mode=mode)))
        assert distance(found, wanted) < TOLERANCE
