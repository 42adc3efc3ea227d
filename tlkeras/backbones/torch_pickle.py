"""PyTorch's pickles, of which nothing but tensors by name is understood.

A pickle is a program, and Python's own reader runs what it names. This one
knows the few instructions and the few names that `torch.save` needs for a
state_dict, and refuses all others: it imports nothing, calls nothing, and
takes no more memory than the file has bytes.
"""

import collections
import dataclasses
import io
import pickletools
from collections.abc import Callable
from typing import Any

# Instructions of one pickle; ResNet-152's weights take 25,000.
_MOST = 1_000_000


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers that the file has elsewhere: how many of which kind.

    key: their name in the file. kind: PyTorch's name, as `FloatStorage`.
    """

    key: str
    kind: str
    numbers: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array of numbers in a storage; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name that the pickle asks for, as `module name`."""

    name: str


def load(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """Returns what the pickle at the stream's place describes, and storages.

    Dictionaries, lists, tuples, text, numbers, and tensors as `Tensor`; all
    storages that it names, by key. The stream is then behind the pickle.
    Raises ValueError for anything else.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MOST:
            raise ValueError(f"its pickle has more than {_MOST:,} steps.")
        if opcode.name == "STOP":
            return machine.pop(), machine.storages
        step = _STEPS.get(opcode.name)
        if step is None:
            raise ValueError(
                f"its pickle has the instruction {opcode.name}, which a "
                "state_dict does not need."
            )
        step(machine, argument)
    raise ValueError("its pickle has no end.")


class _Machine:
    """The stack and the memory of a pickle's program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle takes what is not there.")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        self.push(value)
        if not isinstance(value, kind):
            raise ValueError(
                f"its pickle needs a {kind.__name__} where it has a "
                f"{type(value).__name__}."
            )
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("its pickle lacks a mark.")
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def keep(self, place: int) -> None:
        self.memory[place] = self.top(object)

    def recall(self, place: int) -> None:
        if place not in self.memory:
            raise ValueError("its pickle recalls what it never kept.")
        self.push(self.memory[place])

    def tuple(self, length: int) -> None:
        values = [self.pop() for _ in range(length)]
        self.push(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise ValueError("its pickle has a key without value.")
        target = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Of other keys the hash may take for ever.
            if not isinstance(key, str | int):
                raise ValueError(f"its pickle has a {type(key).__name__} key.")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def name(self, text: str) -> None:
        if text not in _CALLS and text.removeprefix("torch ") not in KINDS:
            raise ValueError(
                f"its pickle names {text.replace(' ', '.')[:80]}, and only "
                "tensors by name are read."
            )
        self.push(_Name(text))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        known = isinstance(function, _Name) and _CALLS.get(function.name)
        if not known or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what is no function.")
        try:
            self.push(known(*arguments))
        except TypeError:
            raise ValueError(
                f"its pickle gives {function.name.replace(' ', '.')} other "
                "arguments than it takes."
            ) from None

    def build(self) -> None:
        # What an OrderedDict has beside its items: torch's version numbers.
        self.pop()
        self.top(collections.OrderedDict)

    def storage(self) -> None:
        match self.pop():
            case ("storage", _Name(name), str(key), str(), int(size), *rest):
                # The older format has views of storages, long unused.
                if rest not in ([], [None]):
                    raise ValueError("its storages are views of others.")
                kind = name.removeprefix("torch ")
                if kind not in KINDS or size < 0:
                    raise ValueError("its pickle has a storage of no kind.")
                found = self.storages.setdefault(key, Storage(key, kind, size))
                if found != Storage(key, kind, size):
                    raise ValueError(f"its storage {key[:80]} is of two kinds.")
                self.push(found)
            case _:
                raise ValueError("its pickle refers to what is no storage.")


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
) -> Any:
    if (
        not isinstance(storage, Storage)
        or not _counts((offset,))
        or not _counts(shape)
        or not _counts(strides)
        or len(shape) != len(strides)
    ):
        raise ValueError("its pickle has a tensor without a proper shape.")
    return Tensor(storage, offset, shape, strides)


def _counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(
        type(value) is int and value >= 0 for value in values
    )


def _parameter(tensor: Any, *_: Any) -> Any:
    if not isinstance(tensor, Tensor):
        raise ValueError("its pickle has a parameter that is no tensor.")
    return tensor


# PyTorch's names of storages, and NumPy's of their numbers. `<u2` stands for
# bfloat16, the upper half of a float32.
KINDS = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda: collections.OrderedDict(),
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "MARK": lambda machine, _: machine.mark(),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        lambda machine, value: machine.push(value),
    ),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"), lambda machine, place: machine.keep(place)
    ),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda machine, place: machine.recall(place)
    ),
    "EMPTY_TUPLE": lambda machine, _: machine.tuple(0),
    "TUPLE1": lambda machine, _: machine.tuple(1),
    "TUPLE2": lambda machine, _: machine.tuple(2),
    "TUPLE3": lambda machine, _: machine.tuple(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_item(),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": lambda machine, text: machine.name(text),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.storage(),
}
