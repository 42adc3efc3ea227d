"""Files as `torch.save` writes them, made without PyTorch."""

import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np

KINDS = {
    "float32": b"FloatStorage",
    "float64": b"DoubleStorage",
    "float16": b"HalfStorage",
    "int64": b"LongStorage",
}
_DICTIONARY = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    """Returns the instruction that pushes a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Returns the instruction that pushes a number."""
    data = pickle.encode_long(value) or b"\0"
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    """Returns the instructions that push a tuple of numbers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    key: str,
    array: np.ndarray,
    *,
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
    kind: bytes = b"",
    older: bool = False,
) -> bytes:
    """Returns the instructions that push a tensor on a storage of its own."""
    if strides is None:
        strides = tuple(stride // array.itemsize for stride in array.strides)
    kind = kind or KINDS[array.dtype.name]
    storage = [text("storage"), b"ctorch\n" + kind + b"\n", text(key)]
    storage += [text("cpu"), number(array.size), b"N" if older else b""]
    return b"".join(
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            *storage,
            b"tQ",
            number(offset),
            numbers(array.shape),
            numbers(strides),
            b"\x89" + _DICTIONARY + b"tR",
        ]
    )


def program(items: dict[str, bytes]) -> bytes:
    """Returns a pickle of a dictionary of what the instructions push."""
    body = b"".join(text(name) + value for name, value in items.items())
    # The version numbers that PyTorch keeps beside the items.
    metadata = b"}" + text("_metadata") + _DICTIONARY + b"s"
    return b"\x80\x02" + _DICTIONARY + b"(" + body + b"u" + metadata + b"b."


def archive(
    content: bytes, storages: dict[str, bytes], **options: int
) -> bytes:
    """Returns an archive with a pickle and storages by key."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", **options) as file:
        file.writestr("some/data.pkl", content)
        file.writestr("some/byteorder", b"little")
        for key, data in storages.items():
            file.writestr(f"some/data/{key}", data)
        file.writestr("some/version", b"3\n")
    return written.getvalue()


def stream(content: bytes, storages: dict[str, tuple[int, bytes]]) -> bytes:
    """Returns the older format; storages: how many numbers, and the bytes."""
    system = {"protocol_version": 1001, "little_endian": True}
    head = [0x1950A86A20F9469CFC6C, 1001, {**system, "type_sizes": {"int": 4}}]
    return b"".join(
        [
            *(pickle.dumps(each, 2) for each in head),
            content,
            pickle.dumps(list(storages), 2),
            *(
                struct.pack("<q", count) + data
                for count, data in storages.values()
            ),
        ]
    )


def saved(arrays: dict[str, np.ndarray], *, older: bool = False) -> bytes:
    """Returns a file of these arrays, in the format of today or the older."""
    content = program(
        {
            name: tensor(str(key), array, older=older)
            for key, (name, array) in enumerate(arrays.items())
        }
    )
    data = {
        str(key): (array.size, array.tobytes("A"))
        for key, array in enumerate(arrays.values())
    }
    if older:
        return stream(content, data)
    return archive(content, {key: each for key, (_, each) in data.items()})


def write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a file of these arrays, as its suffix says."""
    if path.suffix == ".safetensors":
        import safetensors.numpy

        safetensors.numpy.save_file(
            {key: np.ascontiguousarray(each) for key, each in arrays.items()},
            path,
        )
        return
    path.write_bytes(saved(arrays))
