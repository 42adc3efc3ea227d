"""What a LiteRT file says of itself, in the form that its own tools read.

A .tflite file has a buffer with a flatbuffer of TensorFlow's
metadata_schema.fbs (file identifier M001), and is a ZIP archive, too, of the
files that this names. The package that wrote it, tflite-support, is given up;
numbers below are the places of the fields in that schema.
"""

import io
import json
import pathlib
import zipfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import flatbuffers

_LABELS = "labels.txt"
_NAME = b"TFLITE_METADATA"
_IDENTIFIER = b"M001"
# Of the schema's enumerations.
_AXIS_LABELS = 2
_RGB = 1
_IMAGE = 2
_NORMALIZATION = 1


def add(path: pathlib.Path, known: Mapping[str, Any]) -> None:
    """Writes into the file `path` what is `known` of its model.

    known: as `companions.describe` returns it; it is kept as JSON, too.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.metadata = model.metadata or []
    for name, content in (
        (_NAME, _metadata(known)),
        (b"tlkeras", json.dumps(known).encode()),
    ):
        buffer = schema.BufferT()
        buffer.data = list(content)
        model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = len(model.buffers) - 1
        model.metadata.append(entry)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    labels = "".join(f"{label}\n" for label in known["labels"])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stored:
        # The Android library maps it: it must not be compressed.
        stored.writestr(_LABELS, labels)
    path.write_bytes(bytes(builder.Output()) + archive.getvalue())


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns what `add` was told of the model in the file `path`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (entry,) = (each for each in model.metadata if each.name == b"tlkeras")
    return json.loads(bytes(model.buffers[entry.buffer].data))


def _metadata(known: Mapping[str, Any]) -> bytes:
    build = flatbuffers.Builder(1024)
    size = known["image_size"]

    def table(fields: Mapping[int, tuple[str, int]]) -> int:
        """Writes a table of fields by their place: (kind, value or offset)."""
        build.StartObject(max(fields) + 1)
        for place, (kind, value) in fields.items():
            if kind == "offset":
                build.PrependUOffsetTRelativeSlot(place, value, 0)
            elif kind == "byte":
                build.PrependInt8Slot(place, value, 0)
            else:
                build.PrependUint32Slot(place, value, 0)
        return build.EndObject()

    def text(value: str) -> tuple[str, int]:
        return "offset", build.CreateString(value)

    def vector(offsets: Sequence[int]) -> tuple[str, int]:
        build.StartVector(4, len(offsets), 4)
        for each in reversed(offsets):
            build.PrependUOffsetTRelative(each)
        return "offset", build.EndVector()

    def floats(value: float) -> tuple[str, int]:
        build.StartVector(4, 1, 4)
        build.PrependFloat32(value)
        return "offset", build.EndVector()

    # Scaling is in the graph: pixels are to be given as they are.
    options = table({0: floats(0.0), 1: floats(1.0)})
    unit = table({0: ("byte", _NORMALIZATION), 1: ("offset", options)})
    sides = table({0: ("uint", size), 1: ("uint", size)})
    image = table({0: ("byte", _RGB), 1: ("offset", sides)})
    content = table({0: ("byte", _IMAGE), 1: ("offset", image)})
    stats = table({0: floats(255.0), 1: floats(0.0)})
    taken = table(
        {
            0: text("images"),
            1: text(f"RGB in 0..255, resized by {known['resize']}"),
            3: ("offset", content),
            4: vector([unit]),
            5: ("offset", stats),
        }
    )
    labels = table({0: text(_LABELS), 2: ("byte", _AXIS_LABELS)})
    stats = table({0: floats(1.0), 1: floats(0.0)})
    given = table(
        {
            0: text("probabilities"),
            5: ("offset", stats),
            6: vector([labels]),
        }
    )
    graph = table({2: vector([taken]), 3: vector([given])})
    described = table(
        {
            0: text("tlkeras"),
            1: text(json.dumps(known)),
            2: text(known["digest"]),
            3: vector([graph]),
            # The first parser that knows all of these.
            7: text("1.0.0"),
        }
    )
    build.Finish(described, _IDENTIFIER)
    return bytes(build.Output())
