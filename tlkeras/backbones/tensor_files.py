"""Tensors by name, read from files of PyTorch and of safetensors.

PyTorch need not be installed. Its files are a zip archive, or the stream that
it wrote up to version 1.5; both hold a pickle, of which nothing is executed,
and the numbers. Sizes are held against the file before memory is taken.
"""

import importlib
import io
import math
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import locate
from tlkeras.backbones import torch_pickle
from tlkeras.machine import keras_private

# How the older format begins, behind it its version.
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
# What trainers put around the weights that they save.
_WRAPPERS = ("state_dict", "model")
# Of a file; ConvNeXtXLarge has 1.4e9 [bytes].
_LARGEST = 1 << 31
# The kinds of numbers in safetensors, as in `torch_pickle.KINDS`.
_KINDS = {
    "F32": "<f4",
    "F64": "<f8",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays in a .pth, .pt or .safetensors file, as float32.

    Raises `UserError` for a file that is something else.
    """
    try:
        data = files.read(path, most=_LARGEST)
        if path.suffix == locate.SAFETENSORS:
            return _safetensors(data)
        archive = data.startswith(b"PK")
        content, storages = (_archive if archive else _stream)(data)
        state = _state_dict(content)
        return {name: _array(name, state[name], storages) for name in state}
    except Exception as error:
        if keras_private.is_out_of_memory(error):
            raise
        raise errors.UserError(
            f"`weights` {path} cannot be read as tensors by name: "
            f"{' '.join(str(error).split())[:300]}"
        ) from None


def _archive(data: bytes) -> tuple[Any, Mapping[str, bytes | memoryview]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each.filename: each for each in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("the archive is none of PyTorch's.")
        # PyTorch packs nothing: what it stores has the size that it takes.
        total = sum(each.file_size for each in members.values())
        packed = any(
            each.compress_type or each.file_size != each.compress_size
            for each in members.values()
        )
        if packed or total > len(data):
            raise ValueError("the archive is packed, which PyTorch's are not.")
        folder = pickles[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in members and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian.")
        content, _ = torch_pickle.load(io.BytesIO(archive.read(pickles[0])))
        prefix = f"{folder}data/"
        return content, {
            name.removeprefix(prefix): archive.read(name)
            for name in members
            if name.startswith(prefix)
        }


def _stream(data: bytes) -> tuple[Any, Mapping[str, bytes | memoryview]]:
    stream = io.BytesIO(data)
    if data[:1] != b"\x80" or torch_pickle.load(stream)[0] != _MAGIC:
        raise ValueError("it is none of PyTorch's formats.")
    version, _ = torch_pickle.load(stream)
    system, _ = torch_pickle.load(stream)
    if version != _VERSION or not isinstance(system, dict):
        raise ValueError(f"it is of version {version}, not {_VERSION}.")
    if system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian.")
    content, known = torch_pickle.load(stream)
    keys, _ = torch_pickle.load(stream)
    # No checksum guards this format: what belongs to no tensor tells that a
    # name of a storage is damaged.
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(known):
        raise ValueError("its storages are not those of its tensors.")
    storages = {}
    for key in keys:
        storage = known[key]
        count = int.from_bytes(stream.read(8), "little", signed=True)
        size = count * np.dtype(torch_pickle.KINDS[storage.kind]).itemsize
        place = stream.tell()
        if count != storage.numbers or size > len(data) - place:
            raise ValueError(
                f"its storage {key} has {count:,} numbers, where "
                f"{storage.numbers:,} belong and {len(data) - place:,} bytes "
                "are left."
            )
        storages[key] = memoryview(data)[place : place + size]
        stream.seek(place + size)
    if stream.read(1):
        raise ValueError("it ends later than its last tensor.")
    return content, storages


def _state_dict(content: Any) -> dict[str, torch_pickle.Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch_pickle.Tensor)
        for name, value in content.items()
    ):
        raise ValueError("it holds no state_dict, that is tensors by name.")
    return content


def _array(
    name: str,
    tensor: torch_pickle.Tensor,
    storages: Mapping[str, bytes | memoryview],
) -> np.ndarray:
    storage = tensor.storage
    kind = torch_pickle.KINDS[storage.kind]
    if storage.key not in storages:
        raise ValueError(f"the numbers of {name} are not in it.")
    data = storages[storage.key]
    if len(data) != storage.numbers * np.dtype(kind).itemsize:
        raise ValueError(f"the numbers of {name} are fewer, or more.")
    if 0 in tensor.shape:
        raise ValueError(f"{name} of {tensor.shape} is empty.")
    reach = 0
    axes = zip(tensor.strides, tensor.shape, strict=True)
    for stride, length in sorted(axes):
        # So no number is used twice, and an array never outgrows the file.
        if length > 1 and stride <= reach:
            raise ValueError(f"the numbers of {name} overlap.")
        reach += stride * (length - 1)
    if tensor.offset + reach >= storage.numbers:
        raise ValueError(f"{name} of {tensor.shape} reaches beyond the file.")
    numbers = np.frombuffer(data, kind)[tensor.offset :]
    size = numbers.itemsize
    strides = [size * stride for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides)
    return _float32(view, kind)


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    safetensors = importlib.import_module("safetensors")
    arrays = {}
    for name, found in safetensors.deserialize(data):
        kind = _KINDS.get(found["dtype"])
        if kind is None:
            raise ValueError(f"{name} has numbers of kind {found['dtype']}.")
        shape = tuple(found["shape"])
        if math.prod(shape) == 0:
            raise ValueError(f"{name} of {shape} is empty.")
        numbers = np.frombuffer(found["data"], kind).reshape(shape)
        arrays[name] = _float32(numbers, kind)
    return arrays


def _float32(numbers: np.ndarray, kind: str) -> np.ndarray:
    if kind == "<u2":
        return (numbers.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)
