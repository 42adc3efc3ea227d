"""One network of every family through every format, or a reason why not."""

import re

import keras
import numpy as np
import pytest
from test_converters import export  # noqa: F401
from test_converters import samples  # noqa: F401
from test_formats import installed

from tlkeras.backbones import base as bases
from tlkeras.backbones import catalog
from tlkeras.data import images as image_stores
from tlkeras.export import formats
from tlkeras.export import proof
from tlkeras.export import samples as all_samples
from tlkeras.models import classifier as classifiers
from tlkeras.models import saving

pytestmark = pytest.mark.slow

# The smallest network of each family.
FAMILIES = {
    row.family: row
    for row in sorted(catalog.BACKBONES, key=lambda row: -row.parameters)
}
# What is refused, and what is said of it.
REFUSED = {
    # XNNPACK in ai-edge-litert 2.3.0 frees memory twice.
    ("MobileNet", "litert_int8"): "LiteRT's runtime ends the process that opens"
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def network(request):
    """Returns a classifier, and pictures that it answers differently."""
    row = FAMILIES[request.param]
    keras.utils.set_random_seed(0)
    size = max(row.smallest_size, 64)
    model = classifiers.build_classifier(
        3, backbone=row.name, weights="none", image_size=size
    )
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, [24, 4, 4, 3])
    squares = np.kron(small, np.ones([1, size // 4 + 1, size // 4 + 1, 1]))
    squares = squares[:, :size, :size].astype(np.uint8)
    features = bases.of(model)(squares.astype(np.float32)).numpy()
    kernel = generator.normal(size=[features.shape[1], 3])
    kernel /= ((features - features.mean(0)) @ kernel).std()
    bias = -(features.mean(0) @ kernel)
    model.get_layer("head").set_weights([kernel, bias])
    classifier = saving.TrainedModel(
        model, ("a", "b", "c"), image_stores.Shape(size, "stretch")
    )
    pictures = all_samples.Samples(
        "pictures", (), squares, (None,) * 24, calibration=squares
    )
    return row.family, classifier, pictures


@pytest.mark.parametrize(
    "name", [name for name in formats.NAMES if name != "saved_model"]
)
def test_each_format_works_or_says_why_not(
    network,
    name,
    export,  # noqa: F811
):
    installed(name)
    family, classifier, pictures = network
    # Random weights of a deep network leave little for 8 bits to tell apart.
    most = 1.0 if name == "litert_int8" else 0.0
    reason = REFUSED.get((family, name))
    if reason:
        with pytest.raises(proof.ExportError, match=re.escape(reason)):
            export(classifier, name, pictures, most)
        return
    proved = export(classifier, name, pictures, most)
    if name != "litert_int8":
        assert proved["changed"] == 0
        assert proved["largest_difference"] < 1e-4
