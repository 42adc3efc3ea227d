"""Files of tensors: read as they are, and nothing else is made of them."""

import io
import json
import pathlib
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch_files

from tlkeras import errors
from tlkeras.backbones import tensor_files

DRAW = np.random.default_rng(3)
ARRAYS = {
    "conv.weight": DRAW.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "conv.bias": DRAW.normal(size=4),
    "bn.weight": DRAW.normal(size=4).astype(np.float16),
    # As in channels_last: the numbers lie in another order than the axes.
    "fc.weight": DRAW.normal(size=(5, 4)).astype(np.float32).T,
    "bn.num_batches_tracked": np.int64(7).reshape(()),
}
FORMATS = ("archive", "stream", "safetensors")


def file(kind: str, arrays: dict[str, np.ndarray] = ARRAYS) -> bytes:
    if kind == "safetensors":
        return safetensors.numpy.save(
            {key: np.ascontiguousarray(each) for key, each in arrays.items()}
        )
    return torch_files.saved(arrays, older=kind == "stream")


def read(data: bytes, place: pathlib.Path, kind: str = "archive"):
    suffix = ".safetensors" if kind == "safetensors" else ".pth"
    path = place / f"some{suffix}"
    path.write_bytes(data)
    return tensor_files.read(path)


def refusal(data: bytes, place: pathlib.Path, kind: str = "archive") -> str:
    with pytest.raises(
        errors.UserError, match=r"some\.\w+ cannot be"
    ) as caught:
        read(data, place, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def one(instructions: bytes, data: bytes = bytes(16)) -> bytes:
    """An archive with one item, and four numbers for it."""
    content = torch_files.program({"x": instructions})
    return torch_files.archive(content, {"0": data})


FOUR = np.zeros(4, np.float32)


@pytest.mark.parametrize("kind", FORMATS)
def test_arrays_are_what_was_saved(tmp_path, kind):
    found = read(file(kind), tmp_path, kind)
    assert list(found) == list(ARRAYS) or kind == "safetensors"
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_what_a_trainer_puts_around_them_is_left(tmp_path, wrapper):
    inner = torch_files.program({"x": torch_files.tensor("0", FOUR)})[2:-1]
    epoch = torch_files.number(7)
    content = torch_files.program({"epoch": epoch, wrapper: inner})
    found = read(torch_files.archive(content, {"0": bytes(16)}), tmp_path)
    assert list(found) == ["x"]


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    values = np.array([1.5, -2.0, 3e38, 0.0], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    item = torch_files.tensor("0", FOUR, kind=b"BFloat16Storage")
    found = read(one(item, halves), tmp_path)["x"]
    np.testing.assert_allclose(found, values, rtol=0.01)
    head = json.dumps(
        {"x": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    ).encode()
    data = struct.pack("<Q", len(head)) + head + halves
    again = read(data, tmp_path, "safetensors")["x"]
    np.testing.assert_array_equal(again, found)


class TestHostile:
    """Nothing of a file is executed, and nothing of it fills the memory."""

    @pytest.mark.parametrize("older", [False, True])
    @pytest.mark.parametrize(
        "name, argument",
        [
            ("posix system", "touch {}"),
            ("builtins eval", "open({!r}, 'w')"),
            ("builtins exec", "open({!r}, 'w')"),
            ("subprocess check_output", "touch {}"),
            ("torch load", "{}"),
            ("torch._utils _rebuild_qtensor", "{}"),
            ("numpy.core.multiarray _reconstruct", "{}"),
            ("argparse Namespace", "{}"),
        ],
    )
    def test_a_name_that_is_no_tensor_is_refused(
        self, tmp_path, name, argument, older
    ):
        target = tmp_path / "made"
        call = "c" + name.replace(" ", "\n") + "\n("
        content = torch_files.program(
            {
                "x": call.encode()
                + torch_files.text(argument.format(str(target)))
                + b"tR"
            }
        )
        make = torch_files.stream if older else torch_files.archive
        message = refusal(make(content, {}), tmp_path)
        assert f"names {name.replace(' ', '.')}" in message
        assert not target.exists()

    @pytest.mark.parametrize(
        "item, message",
        [
            (b"(I1\nI2\nl", "instruction INT"),
            (b"cposix\nsystem\n" + b"(" + b"\x81", "names posix.system"),
            (b"(" + torch_files.text("id") + b"iposix\nsystem\n", "INST"),
            (b"\x95" + bytes(8) + b"N", "instruction FRAME"),
            (b"\x8d" + b"\xff" * 8, "count > sys.maxsize"),
            (b"P0\n", "instruction PERSID"),
            (b"h\x07", "recalls"),
            (b"000", "instruction POP"),
            (b"R", "takes what is not there|calls"),
            (b"N)R", "calls what is no function"),
            (b"ctorch\nFloatStorage\n)R", "calls what is no function"),
            (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "other arguments"),
            (b"ccollections\nOrderedDict\n(Nt" + b"R", "other arguments"),
            (b"NQ", "no storage"),
            (b"}(Nu", "key without value"),
            (b"})Ns", "tuple key"),
            (b"Na", "takes what is not there|needs a list"),
            (b"NN" + b"b", "OrderedDict"),
            (b"N", "no state_dict"),
            (b"r\xff\xff\xff\xffN", "takes what is not there|state_dict"),
        ],
    )
    def test_instructions_that_no_state_dict_needs(
        self, tmp_path, item, message
    ):
        assert re.search(message, refusal(one(item), tmp_path))

    def test_a_key_whose_hash_would_take_for_ever(self, tmp_path):
        # Each tuple holds the one before it twice.
        item = b"})" + b"q\x01h\x01\x86" * 60 + b"Ns"
        assert "tuple key" in refusal(one(item), tmp_path)

    def test_a_pickle_without_end(self, tmp_path):
        content = torch_files.program({"x": b"N"})[:-1]
        refusal(torch_files.archive(content, {}), tmp_path)
        content = b"\x80\x02" + b"N" * 1_000_002 + b"."
        message = refusal(torch_files.archive(content, {}), tmp_path)
        assert "more than 1,000,000 steps" in message

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"offset": 1}, "beyond the file"),
            ({"strides": (2,)}, "beyond the file"),
            ({"strides": (0,)}, "overlap"),
            ({"offset": -1}, "proper shape"),
            ({"strides": (1, 1)}, "proper shape"),
            ({"kind": b"DoubleStorage"}, "fewer, or more"),
            ({"kind": b"HalfStorage"}, "fewer, or more"),
        ],
    )
    def test_sizes_that_the_file_does_not_have(
        self, tmp_path, changes, message
    ):
        item = torch_files.tensor("0", FOUR, **changes)
        assert message in refusal(one(item), tmp_path)

    @pytest.mark.parametrize(
        "shape", [(2**40,), (2**31, 2**31), (2**62, 4), (0, 2**62), (-1,)]
    )
    def test_shapes_that_no_memory_holds(self, tmp_path, shape):
        huge = np.lib.stride_tricks.as_strided(
            FOUR[:1], (1,) * len(shape), (4,) * len(shape)
        )
        item = torch_files.tensor("0", huge).replace(
            torch_files.numbers(huge.shape), torch_files.numbers(shape), 1
        )
        tracemalloc.start()
        refusal(one(item), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20

    @pytest.mark.parametrize("count", [5, 3, 2**60, -4, -1])
    def test_a_stream_that_claims_other_numbers(self, tmp_path, count):
        content = torch_files.program(
            {"x": torch_files.tensor("0", FOUR, older=True)}
        )
        data = torch_files.stream(content, {"0": (count, bytes(16))})
        assert "storage 0 has" in refusal(data, tmp_path)

    def test_a_stream_with_storages_of_nothing(self, tmp_path):
        content = torch_files.program(
            {"x": torch_files.tensor("0", FOUR, older=True)}
        )
        both = {"0": (4, bytes(16)), "1": (4, bytes(16))}
        data = torch_files.stream(content, both)
        assert "not those of its tensors" in refusal(data, tmp_path)
        data = torch_files.stream(content, {"0": (4, bytes(16))})
        assert "x" in read(data, tmp_path)
        assert "ends later" in refusal(data + b"\0", tmp_path)

    def test_an_archive_that_unpacks_to_much(self, tmp_path):
        item = torch_files.tensor("0", np.zeros(1 << 24, np.float32))
        content = torch_files.program({"x": item})
        data = torch_files.archive(
            content, {"0": bytes(1 << 26)}, compression=zipfile.ZIP_DEFLATED
        )
        assert len(data) < 1 << 20
        tracemalloc.start()
        assert "packed" in refusal(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
        tracemalloc.stop()

    def test_numbers_of_the_other_order(self, tmp_path):
        item = torch_files.tensor("0", FOUR)
        written = io.BytesIO(one(item))
        with zipfile.ZipFile(written) as known:
            members = {name: known.read(name) for name in known.namelist()}
        with zipfile.ZipFile(written, "w") as other:
            for name, data in {**members, "some/byteorder": b"big"}.items():
                other.writestr(name, data)
        assert "little-endian" in refusal(written.getvalue(), tmp_path)

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize(
        "data", [b"", b"PK", b"nonsense" * 99, bytes(999), b"\x80\x02."]
    )
    def test_no_file_of_tensors(self, tmp_path, kind, data):
        refusal(data, tmp_path, kind)

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**60]},
            {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]},
            {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]},
            {"dtype": "os.system", "shape": [4], "data_offsets": [0, 16]},
        ],
    )
    def test_heads_of_safetensors(self, tmp_path, entry):
        head = json.dumps({"x": entry}).encode()
        data = struct.pack("<Q", len(head)) + head
        data += bytes(entry["data_offsets"][1] % 2**60)
        refusal(data, tmp_path, "safetensors")
        refusal(struct.pack("<Q", 2**60) + head, tmp_path, "safetensors")


def mutated(data: bytes, draw: np.random.Generator) -> tuple[bytes, int]:
    """Returns a damaged file, and how many bytes were changed in place.

    0: bytes were put in or cut out.
    """
    changed = bytearray(data)
    places = draw.integers(len(data), size=draw.integers(1, 4))
    kind = draw.integers(6)
    if kind == 0:
        return data[: places[0]], 0
    if kind == 1:
        extra = draw.bytes(int(draw.integers(1, 9)))
        return data[: places[0]] + extra + data[places[0] :], 0
    if kind == 2:
        cut = int(draw.integers(1, 9))
        return data[: places[0]] + data[places[0] + cut :], 0
    for place in places:
        changed[place] = draw.integers(256)
    return bytes(changed), len(places)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_refused_or_right(tmp_path, kind):
    """Right: what fits a network has the numbers that the file has.

    Only where a byte of a number itself was changed, and no checksum guards
    it, that number is another.
    """
    data = file(kind)
    wanted = read(data, tmp_path, kind)
    shapes = {name: array.shape for name, array in wanted.items()}
    draw = np.random.default_rng(FORMATS.index(kind))
    refused = right = 0
    for _ in range(700):
        other, changed = mutated(data, draw)
        try:
            found = read(other, tmp_path, kind)
        except errors.UserError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        # Names and shapes that are others fit no network.
        if {name: each.shape for name, each in found.items()} != shapes:
            refused += 1
            continue
        differ = sum(
            int(np.sum(found[name].view("u4") != wanted[name].view("u4")))
            for name in wanted
        )
        assert differ <= (0 if kind == "archive" else changed)
        right += 1
    assert refused > 100
    assert right > 10


@pytest.mark.torch
class TestTorch:
    """What PyTorch writes is read, and our files of the tests are like its."""

    @pytest.mark.parametrize("older", [False, True])
    def test_what_it_saves_is_read(self, tmp_path, older):
        import torch

        state = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        ).to(memory_format=torch.channels_last)
        state = state.state_dict()
        state["tied"] = state["0.bias"]
        state["half"] = torch.randn(3).half()
        state["brain"] = torch.randn(3).bfloat16()
        state["parameter"] = torch.nn.Parameter(torch.randn(3))
        state["part"] = torch.randn(9)[3:7]
        path = tmp_path / "some.pth"
        torch.save(
            {"epoch": 3, "rate": 1e-3, "state_dict": state},
            path,
            _use_new_zipfile_serialization=not older,
        )
        found = tensor_files.read(path)
        assert set(found) == set(state)
        for name, value in state.items():
            np.testing.assert_array_equal(
                found[name], value.detach().float().numpy()
            )

    @pytest.mark.parametrize("kind", ["archive", "stream"])
    def test_it_reads_what_the_tests_write(self, tmp_path, kind):
        import torch

        path = tmp_path / "some.pth"
        path.write_bytes(file(kind))
        found = torch.load(path, weights_only=True)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name].numpy(), array)
