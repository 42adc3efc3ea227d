"""OpenVINO's intermediate representation."""

import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

from tlkeras.export import frozen
from tlkeras.export import proof
from tlkeras.export import samples as all_samples
from tlkeras.models import saving


def convert(
    classifier: saving.TrainedModel,
    directory: pathlib.Path,
    known: Mapping[str, Any],
    samples: all_samples.Samples,
) -> None:
    """Writes model.xml and model.bin into `directory`.

    It takes `images` [n, size, size, 3], float32 in 0..255, and gives what
    `frozen.OUTPUTS` names. known: what the file is to say of itself.

    Raises `ExportError` for what OpenVINO has no operation for.
    """
    # Else the converter reports to its maker what it converts. `import` then
    # raises ImportError, for which OpenVINO has a stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    function, spec = frozen.function(classifier, batch=None)
    try:
        model = openvino.convert_model(function.get_concrete_function(spec))
    except Exception as error:
        raise proof.ExportError(_why(str(error))) from error
    # They come by the alphabet; many programs take the first.
    results = sorted(
        model.results,
        key=lambda each: frozen.OUTPUTS.index(
            each.get_output_tensor(0).get_any_name()
        ),
    )
    model = openvino.Model(results, model.get_parameters(), "tlkeras")
    # The names that OpenVINO's Model API reads, and all as JSON.
    described = {
        "model_type": "Classification",
        "labels": " ".join(
            label.replace(" ", "_") for label in known["labels"]
        ),
        "tlkeras": json.dumps(known),
    }
    for name, value in described.items():
        model.set_rt_info(value, ["model_info", name])
    # By itself it would round the weights to 16 bits.
    openvino.save_model(model, directory / "model.xml", compress_to_fp16=False)


def _why(message: str) -> str:
    """Returns what a converter's error of many lines comes to."""
    found = re.search(r"No conversion rule found for operations: (.+)", message)
    if found:
        return (
            f"OpenVINO has no operation for {found[1].strip()} of this "
            "network. Export to onnx or litert, or train another network."
        )
    lines = [line for line in message.splitlines() if line.strip()]
    return (
        "the converter of OpenVINO ended with: "
        f"{lines[-1].strip()[:300] if lines else 'it said nothing'}"
    )
