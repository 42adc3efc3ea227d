"""LiteRT (TensorFlow Lite), in float32 or in integers of 8 bits."""

import inspect
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tlkeras.export import frozen
from tlkeras.export import litert_metadata
from tlkeras.export import proof
from tlkeras.export import runtimes
from tlkeras.export import samples as all_samples
from tlkeras.models import saving

# Their names sort as they stand here: the runtime takes the last.
_SIGNATURES = ("serving_default", "with_similarity")
# Images to whose answers both must agree.
_ALIKE = 8


def convert(
    classifier: saving.TrainedModel,
    directory: pathlib.Path,
    known: Mapping[str, Any],
    samples: all_samples.Samples,
) -> None:
    """Writes model.tflite into `directory`.

    It takes one image, [1, size, size, 3] in 0..255: float32, or uint8 where
    it computes in integers, whose ranges are chosen by the calibration images
    of `samples`. Its first signature gives the probabilities alone, as the
    tools of Android want it; where there is more to tell, the second gives all
    of `frozen.OUTPUTS` from the same weights. known: what the file is to say of
    itself, its input included.

    Raises `ExportError` for what LiteRT has no operation for.
    """
    integers = known["input"]["dtype"] == "uint8"
    signatures = {}
    for name in _SIGNATURES[: 1 + classifier.tells_unknown]:
        function, spec = frozen.function(
            classifier, batch=1, whole=name != _SIGNATURES[0]
        )
        if integers:
            function = _of_pixels(function, spec)
        signatures[name] = function.get_concrete_function(spec)
    with tempfile.TemporaryDirectory() as place:
        tf.saved_model.save(
            tf.Module(),
            place,
            signatures=signatures,
            # Nothing learns from it; that of swish cannot even be saved.
            options=tf.saved_model.SaveOptions(
                experimental_custom_gradients=False
            ),
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(
            place, signature_keys=list(signatures)
        )
        if integers:
            _in_integers(converter, samples.calibration, list(signatures))
        try:
            converted = converter.convert()
        except Exception as error:
            raise proof.ExportError(_why(str(error))) from error
    file = directory / "model.tflite"
    file.write_bytes(converted)
    _check_runs(file, classifier.shape.size)
    if integers:
        _check_pixels(file)
    if len(signatures) > 1:
        _check_alike(file, samples.squares[:_ALIKE])
    litert_metadata.add(file, known)


def _of_pixels(function: Any, spec: tf.TensorSpec) -> Any:
    """Returns the function with its input's range said: that of uint8.

    Else the range would be what the calibration images have, joined with that
    of what follows, and pixels would not mean themselves.
    """

    @tf.function(input_signature=[spec], autograph=False)
    def ranged(images):
        return function(
            tf.quantization.fake_quant_with_min_max_args(images, 0, 255)
        )

    return ranged


def _in_integers(
    converter: tf.lite.TFLiteConverter,
    calibration: np.ndarray | None,
    signatures: Sequence[str],
) -> None:
    if calibration is None:
        raise ValueError("`samples` must have images for calibration.")
    images = calibration.astype(np.float32)

    def representative() -> Iterator[Any]:
        for name in signatures:
            for image in images:
                taken = {frozen.INPUT: image[None]}
                # Of one signature alone the converter wants no name.
                yield (name, taken) if len(signatures) > 1 else taken

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32


def _check_runs(file: pathlib.Path, size: int) -> None:
    """Raises `ExportError` where a process that runs the file comes to an end.

    XNNPACK in ai-edge-litert 2.3.0 frees memory twice on some files in 8 bits,
    and no exception tells of it.
    """
    program = (
        "import os, sys\nimport numpy as np\n"
        f"{inspect.getsource(runtimes.litert)}\n"
        f"litert(sys.argv[1])(np.zeros([1, {size}, {size}, 3], np.uint8))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    # What raises an exception is told where the file is proved.
    if done.returncode < 0:
        raise proof.ExportError(
            "LiteRT's runtime ends the process that opens what the converter "
            f"wrote (signal {-done.returncode}). Export to another format."
        )


def _check_pixels(file: pathlib.Path) -> None:
    """Raises `ExportError` unless uint8 pixels go in as they are."""
    from ai_edge_litert.interpreter import Interpreter

    taken = Interpreter(str(file)).get_input_details()[0]
    scale, zero = taken["quantization"]
    if taken["dtype"] != np.uint8 or zero != 0 or abs(scale - 1) > 1e-6:
        raise proof.ExportError(
            "the converter wants pixels of type "
            f"{np.dtype(taken['dtype']).name} as (pixel - {zero}) * {scale:g}, "
            "and not as they are. Give --calibration other images."
        )


def _check_alike(file: pathlib.Path, squares: np.ndarray) -> None:
    """Raises `ExportError` unless both signatures give equal probabilities."""
    plain, whole = (
        runtimes.litert(file, signature=name)(squares)["probabilities"]
        for name in _SIGNATURES
    )
    difference = float(np.abs(plain - whole).max())
    if not difference <= proof.TOLERANCE["float32"]:
        raise proof.ExportError(
            "the probabilities of its two signatures differ by "
            f"{difference:.3g}."
        )


def _why(message: str) -> str:
    """Returns what a converter's error of many lines comes to."""
    found = re.findall(r"(?:Flex|Custom) ops: ([\w, ]+)", message)
    operations = sorted(
        {
            each.strip().removeprefix("Flex")
            for names in found
            for each in names.split(",")
        }
    )
    if operations:
        return (
            f"LiteRT has no operation for {', '.join(operations)} of this "
            "network. Export to onnx or openvino, or train another network."
        )
    line = next(iter(message.strip().splitlines()), "it said nothing")
    return f"the converter of LiteRT ended with: {line}"
