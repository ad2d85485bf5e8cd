"""Reading a pickle without running it.

A pickle is a program; Python's unpickler calls whatever it names. This interpreter cannot call anything: it knows the
opcodes of plain data, the handful of functions by which torch describes a tensor, and turns the harmless objects that
trainers leave in a checkpoint (callbacks, settings, numpy scalars) into `Inert`. Every other name is refused.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from sfumato.checkpoint.checkpoint import MAX_RANK

MAX_NUMBER = 2**48
MAX_OPCODES = 2_000_000  # a full 1.x checkpoint with optimiser takes 200,000


class PickleError(ValueError):
    """The pickle is broken, or asks for something that is not data. The message continues '<file> ...'."""


@dataclass(frozen=True)
class Name:
    """A global that the pickle mentions, never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Inert:
    """What would have been an object of some class."""

    kind: str


@dataclass(frozen=True)
class StorageRef:
    """Raw elements kept elsewhere in the file; `dtype` None means bytes."""

    key: str
    dtype: torch.dtype | None
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A view of a storage; offset and strides in elements of `dtype`."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


STORAGES: dict[str, torch.dtype | None] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": None,
}
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}

# What stands for an object nobody needs. Of libraries that also hold functions which run code, exact names only.
INERT_PACKAGES = {"pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "omegaconf", "antlr4"}
BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range"),
    *("set", "slice", "str", "tuple", "type", "unicode", "xrange"),
)
PATHLIB = ("pathlib", "pathlib._local")  # the second one where Python 3.13 writes paths
PATHS = ("Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath")
INERT_NAMES = {
    ("argparse", "Namespace"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    ("collections", "deque"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("decimal", "Decimal"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *((module, name) for module in PATHLIB for name in PATHS),
    *((module, name) for module in ("builtins", "__builtin__") for name in BUILTINS),
    ("torch", "device"),
    ("torch", "Generator"),
    ("torch.nn.parameter", "Parameter"),
    ("typing", "Any"),
}


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any, dtype: torch.dtype | None = None
) -> TensorRef:
    if not isinstance(storage, StorageRef) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise PickleError("describes a tensor wrongly; download it again")
    dtype = storage.dtype if dtype is None else dtype
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or dtype is None or not all(type(n) is int and 0 <= n < MAX_NUMBER for n in numbers):
        raise PickleError("describes a tensor wrongly; download it again")
    if len(shape) > MAX_RANK:
        raise PickleError(f"holds a tensor of rank {len(shape)}, at most {MAX_RANK} is read")
    count = storage.count if storage.dtype is not None else storage.count // dtype.itemsize
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    elements = math.prod(shape)
    if elements > count or (elements and last >= count):
        raise PickleError(f"describes a tensor of shape {shape} larger than its data; download it again")
    return TensorRef(storage, offset, shape, stride, dtype)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> TensorRef:
    return _tensor(storage, offset, shape, stride, dtype=_dtype(dtype))


def _dtype(name: Any) -> torch.dtype:
    if not isinstance(name, Name) or name.module != "torch" or name.name not in DTYPES:
        what = name if isinstance(name, Name) else "it gives"
        raise PickleError(f"holds a tensor of the unknown type {what}; save it as float32 or float16")
    return DTYPES[name.name]


def _subclass(function: Any, kind: Any, arguments: Any, *rest: Any) -> Any:
    return _call(function, arguments)


def _ordered(pairs: Any = (), *rest: Any) -> dict[Any, Any]:
    return {
        pair[0]: pair[1] for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2 and _is_key(pair[0])
    }


def _size(values: Any = (), *rest: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else ()


def _encode(text: Any, encoding: Any = "latin1", *rest: Any) -> bytes:
    return text.encode("latin1", "replace") if isinstance(text, str) else b""


class _Parameters(dict[Any, Any]):
    """A ParameterDict of torch, which trainers of embeddings kept: its parameters by their names."""

    def __init__(self, *arguments: Any):
        super().__init__()

    def fill(self, state: Any) -> None:
        """Takes the parameters out of what the object had as its state."""
        state = state[0] if isinstance(state, tuple) and state else state
        held = state.get("_parameters") if isinstance(state, dict) else None
        self.update(held if isinstance(held, dict) else {})


CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch.nn.modules.container", "ParameterDict"): _Parameters,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *rest: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _ordered,
    ("_codecs", "encode"): _encode,
}


def _mention(module: Any, name: Any) -> Name:
    """The global, if it is one that may be mentioned."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("is not a valid pickle; download it again")
    known = (
        (module, name) in CALLS
        or (module, name) in INERT_NAMES
        or (module in ("torch", "torch.storage") and name in STORAGES)
        or (module == "torch" and name in DTYPES)
        or (module.split(".")[0] in INERT_PACKAGES and "." not in name)
    )
    if not known:
        what = f"{module}.{name}"
        raise PickleError(f"wants to run {what[:120]!r}, which no model needs; it may be malicious: do not use it")
    return Name(module, name)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise PickleError("is not a valid pickle; download it again")
    build = CALLS.get((function.module, function.name))
    try:
        return build(*arguments) if build else Inert(str(function))
    except TypeError as error:
        raise PickleError(f"calls {function} wrongly; download it again") from error


def _is_key(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bytes)


def _bounded(number: Any) -> Any:
    if isinstance(number, int) and abs(number) >= MAX_NUMBER**2:
        raise PickleError("holds an absurdly large number; it may be malicious, do not use it")
    return number


class _Machine:
    def __init__(self, persistent: Callable[[Any], Any]):
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update((k, v) for k, v in zip(pairs[::2], pairs[1::2], strict=True) if _is_key(k))

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def step(self, code: str, argument: Any) -> None:
        push, pop = self.stack.append, self.stack.pop
        match code:
            case "PROTO" | "FRAME":
                pass
            case "NONE":
                push(None)
            case "NEWTRUE":
                push(True)
            case "NEWFALSE":
                push(False)
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT":
                push(_bounded(argument))
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINSTRING" | "SHORT_BINSTRING":
                push(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                push(bytes(argument))
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST" | "EMPTY_SET":
                push([])
            case "EMPTY_TUPLE":
                push(())
            case "MARK":
                self.marks.append(len(self.stack))
            case "POP":
                pop()
            case "POP_MARK":
                self.since_mark()
            case "DUP":
                push(self.stack[-1])
            case "TUPLE":
                push(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code[-1])
                items = tuple(self.stack[-count:])
                del self.stack[-count:]
                push(items)
            case "LIST" | "FROZENSET":
                push(self.since_mark())
            case "DICT":
                pairs = self.since_mark()
                push({})
                self.set_items(pairs)
            case "APPEND":
                self.append([pop()])
            case "APPENDS" | "ADDITEMS":
                self.append(self.since_mark())
            case "SETITEM":
                value, key = pop(), pop()
                self.set_items([key, value])
            case "SETITEMS":
                self.set_items(self.since_mark())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                push(_mention(module, name))
            case "STACK_GLOBAL":
                name, module = pop(), pop()
                push(_mention(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, function = pop(), pop()
                push(_call(function, arguments))
            case "NEWOBJ_EX":
                pop()
                arguments, function = pop(), pop()
                push(_call(function, arguments))
            case "BUILD":
                state = pop()  # of an object that is not built
                if isinstance(self.stack[-1], _Parameters):
                    self.stack[-1].fill(state)
            case "BINPERSID":
                push(self.persistent(pop()))
            case _:
                raise PickleError(f"uses the pickle instruction {code}, which no checkpoint needs; do not use it")


def unpickle(file: BinaryIO, persistent: Callable[[Any], Any] = lambda reference: Inert("persistent")) -> Any:
    """Read one pickle from `file`, leaving it just behind.

    The result consists of dict, list, tuple, str, bytes, numbers, None, TensorRef, Name and Inert. `persistent` turns a
    persistent reference (torch's storages) into a value. Raises PickleError.
    """
    machine = _Machine(persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES:
                raise PickleError(f"needs more than {MAX_OPCODES} pickle instructions; no model does, do not use it")
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PickleError("is not a valid pickle; download it again") from error


def storage_reference(reference: Any) -> StorageRef:
    """torch's persistent reference: ("storage", class, key, place, count[, view])."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise PickleError("refers to data outside the pickle in an unknown way; download it again")
    kind, key, count = reference[1], reference[2], reference[4]
    if len(reference) == 6 and reference[5] is not None:
        raise PickleError(
            "shares data between tensors in the way of torch before 1.0; save it again with a newer torch"
        )
    if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str):
        raise PickleError("refers to data of an unknown type; download it again")
    if type(count) is not int or not 0 <= count < MAX_NUMBER:
        raise PickleError("refers to data of an impossible size; download it again")
    return StorageRef(key, STORAGES[kind.name], count)
