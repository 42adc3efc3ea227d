"""ONNX, by tf2onnx."""

import collections
import contextlib
import logging
import pathlib
import re
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras.export import frozen
from tlkeras.export import proof
from tlkeras.export import samples as all_samples
from tlkeras.models import saving

_OPSET = 18


def convert(
    classifier: saving.TrainedModel,
    directory: pathlib.Path,
    known: Mapping[str, Any],
    samples: all_samples.Samples,
) -> None:
    """Writes model.onnx into `directory`.

    It takes `images` [n, size, size, 3], float32 in 0..255, and gives what
    `frozen.OUTPUTS` names. known: what the file is to say of itself.

    Raises `ExportError` for what has no ONNX.
    """
    import json

    import onnx
    import tf2onnx

    function, spec = frozen.function(classifier, batch=None)
    with _complaints() as unknown:
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=[spec],
            opset=_OPSET,
            custom_op_handlers={"Erfc": (_complement, [])},
        )
    if unknown:
        # tf2onnx then writes a file that no runtime opens, without an error.
        raise proof.ExportError(
            f"ONNX has no operation for {', '.join(sorted(unknown))} of this "
            "network. Export to openvino or litert, or train another network."
        )
    # They come by the alphabet; many programs take the first.
    proto.graph.output.sort(key=lambda each: frozen.OUTPUTS.index(each.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.helper.set_model_props(
        proto,
        {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in known.items()
        },
    )
    onnx.save(proto, directory / "model.onnx")


def _complement(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Writes erfc(x), which exact GELU uses on TensorFlow, as 1 - erf(x)."""
    node.type = "Erf"
    (output,) = node.output
    users = context.find_output_consumers(output)
    one = context.make_const(f"{name}_one", np.array(1, np.float32))
    difference = context.make_node(
        "Sub",
        [one.output[0], output],
        shapes=[context.get_shape(output)],
        dtypes=[context.get_dtype(output)],
    )
    context.replace_all_inputs(output, difference.output[0], ops=users)


@contextlib.contextmanager
def _complaints() -> Iterator[collections.Counter]:
    """Yields the operations that tf2onnx does not know, to be filled by it.

    It tells them in its log alone, which nobody else is to see.
    """
    found: collections.Counter = collections.Counter()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            unknown = re.search(
                r"op \[[^\]]*: (\w+)\] is not supported", record.getMessage()
            )
            if unknown:
                found[unknown[1]] += 1

    log = logging.getLogger("tf2onnx")
    listener = Listener()
    before = log.propagate
    log.propagate = False
    log.addHandler(listener)
    try:
        yield found
    finally:
        log.removeHandler(listener)
        log.propagate = before
