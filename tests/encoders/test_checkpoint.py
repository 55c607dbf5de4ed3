"""The checkpoint reader: what it reads is what torch reads, and nothing of a hostile file runs.

Files are put together opcode by opcode, so that each attack is one change of a valid file.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter.encoders.pocket.checkpoint import _rebuild_tensor, read_checkpoint
from tip_adapter.encoders.pocket.encoder import _IMAGE_WEIGHTS
from tip_adapter.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
VALUES = np.arange(6, dtype="<f4")


@dataclass(frozen=True)
class Name:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Persistent:
    id: Any


def opcodes(value: Any) -> bytes:
    """A value as opcodes of pickle's protocol 2, without what starts and ends a pickle."""
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return opcodes(value.function) + opcodes(value.arguments) + b"R"
    if isinstance(value, Persistent):
        return opcodes(value.id) + b"Q"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"I%d\n" % value
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    if isinstance(value, list):
        return b"(" + b"".join(map(opcodes, value)) + b"l"
    return b"(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"d"


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def tensor(
    shape: Any = (2, 3), strides: Any = (3, 1), offset: Any = 0, size: Any = 6, dtype: str = "FloatStorage"
) -> Call:
    storage = Persistent(("storage", Name("torch", dtype), "0", "cpu", size, ()))
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, strides, False, {}))


def parts(tree: Any, *, magic: Any = MAGIC, version: Any = VERSION, little_endian: Any = True) -> list[bytes]:
    """The five pickles of a checkpoint."""
    return [pickled(part) for part in (magic, version, {"little_endian": little_endian}, tree, ["0"])]


def storage(count: int = 6, content: bytes = VALUES.tobytes()) -> bytes:
    return struct.pack("<q", count) + content


def read(path: Path, content: bytes) -> dict[str, Any]:
    """Read `content` as a file whose digest is the expected one."""
    path.write_bytes(content)
    return read_checkpoint(path, sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def test_the_file_that_the_attacks_change_is_read(file: Path) -> None:
    tensors = read(file, b"".join(parts({"a": tensor(), "b": tensor((3,), (2,), 1)})) + storage())
    assert list(tensors) == ["a", "b"]
    np.testing.assert_array_equal(tensors["a"], VALUES.reshape(2, 3))
    np.testing.assert_array_equal(tensors["b"], VALUES[1::2])


def test_scalars_empty_tensors_and_whole_numbers_are_read(file: Path) -> None:
    tree = {"scalar": tensor((), (), 5), "empty": tensor((0, 3), (3, 1))}
    tensors = read(file, b"".join(parts(tree)) + storage())
    assert tensors["scalar"] == 5
    assert tensors["empty"].shape == (0, 3)
    whole = np.arange(3, dtype="<i8")
    tree = {"n": tensor((3,), (1,), size=3, dtype="LongStorage")}
    np.testing.assert_array_equal(read(file, b"".join(parts(tree)) + storage(3, whole.tobytes()))["n"], whole)


@pytest.mark.slow
def test_the_installed_weights_are_read_as_torch_reads_them() -> None:
    torch = pytest.importorskip("torch")
    package, name, sha256 = _IMAGE_WEIGHTS
    path = files(package) / name
    ours, theirs = read_checkpoint(str(path), sha256=sha256), torch.load(str(path), weights_only=True)
    assert list(ours) == list(theirs)
    for key, array in ours.items():
        assert array.dtype == theirs[key].numpy().dtype
        np.testing.assert_array_equal(array, theirs[key].numpy(), err_msg=key)


# ---- nothing of a hostile file runs -------------------------------------------------------------------------------


def attacks(marker: str) -> dict[str, Any]:
    """Pickled values that leave a file at `marker`, or reach for what could."""
    touch, write = f"touch '{marker}'", f"open({marker!r}, 'w').close()"
    return {
        "os.system": Call(Name("os", "system"), (touch,)),
        "posix.system": Call(Name("posix", "system"), (touch,)),
        "subprocess.call": Call(Name("subprocess", "call"), (["touch", marker],)),
        "builtins.eval": Call(Name("builtins", "eval"), (write,)),
        "builtins.exec": Call(Name("builtins", "exec"), (write,)),
        "builtins.open": Call(Name("builtins", "open"), (marker, "w")),
        "torch._utils's other function": Call(Name("torch._utils", "_rebuild_tensor"), (1, 2, 3, 4)),
        "torch's other class": Name("torch", "DoubleStorage"),
        "torch.load's own": Call(Name("torch.storage", "_load_from_bytes"), ("x",)),
        "collections' other class": Call(Name("collections", "defaultdict"), ()),
        "a dotted name": Name("collections", "OrderedDict.fromkeys"),
        "this package": Name("tip_adapter.io.files", "write_file"),
    }


@pytest.mark.parametrize("attack", ["os.system", "posix.system", "subprocess.call", "builtins.eval", "builtins.exec"])
def test_the_attacks_do_run_in_an_unguarded_reader(attack: str, tmp_path: Path) -> None:
    pickle.loads(pickled(attacks(str(tmp_path / "ran"))[attack]))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("attack", attacks(""))
@pytest.mark.parametrize("position", range(5))
def test_fault_38_a_pickle_that_asks_for_another_name_is_refused_and_does_not_run(
    position: int, attack: str, file: Path
) -> None:
    marker = file.with_name("ran")
    pickles = parts({"a": tensor()})
    pickles[position] = pickled(attacks(str(marker))[attack])
    with pytest.raises(CheckpointError, match="which no tensor needs; refused"):
        read(file, b"".join(pickles) + storage())
    assert not marker.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05false\x85R.",  # protocol 4, STACK_GLOBAL
        b"(X\x05\x00\x00\x00falseios\nsystem\n.",  # INST
        b"(cos\nsystem\nX\x05\x00\x00\x00falseo.",  # OBJ
        b"cos\nsystem\n\x85\x81.",  # NEWOBJ
    ],
    ids=["STACK_GLOBAL", "INST", "OBJ", "NEWOBJ"],
)
def test_fault_38_no_other_opcode_reaches_a_name(stream: bytes, file: Path) -> None:
    pickles = parts({"a": tensor()})
    pickles[3] = stream
    with pytest.raises(CheckpointError, match=r"os\.system, which no tensor needs; refused"):
        read(file, b"".join(pickles) + storage())


def test_another_digest_is_refused_before_anything_is_parsed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: Any) -> None:
        raise AssertionError("the file was parsed")

    content = b"".join(parts({"a": tensor()})) + storage()
    monkeypatch.setattr("tip_adapter.encoders.pocket.checkpoint._read_tensors", parse)
    with pytest.raises(AssertionError, match="was parsed"):
        read(file, content)
    file.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"was changed: its SHA-256 is .*reinstall"):
        read_checkpoint(file, sha256=hashlib.sha256(content).hexdigest())


def test_fault_44_reading_imports_and_executes_nothing(file: Path) -> None:
    content = b"".join(parts({"a": tensor()})) + storage()
    file.write_bytes(content)
    program = f"""
import sys
from tip_adapter.encoders.pocket.checkpoint import read_checkpoint
events = []
sys.addaudithook(lambda event, arguments: events.append(event))
read_checkpoint({str(file)!r}, sha256={hashlib.sha256(content).hexdigest()!r})
seen = sorted(set(events))
print(*seen)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["open"]


# ---- files that are not what they should be -----------------------------------------------------------------------


def test_an_empty_file_is_refused(file: Path) -> None:
    with pytest.raises(CheckpointError, match=str(file)):
        read(file, b"")


def test_a_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file or directory; reinstall"):
        read_checkpoint(file, sha256="0" * 64)


def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    content = b"".join(parts({"a": tensor()})) + storage()
    for end in range(len(content)):
        with pytest.raises(CheckpointError):
            read(file, content[:end])


@pytest.mark.parametrize("changed", [{"magic": MAGIC + 1}, {"magic": "x"}, {"version": 1002}, {"version": [1001]}])
def test_another_layout_is_refused(changed: dict[str, Any], file: Path) -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint in torch's old layout"):
        read(file, b"".join(parts({"a": tensor()}, **changed)) + storage())


def test_big_endian_values_are_refused(file: Path) -> None:
    with pytest.raises(CheckpointError, match="big-endian"):
        read(file, b"".join(parts({"a": tensor()}, little_endian=False)) + storage())


@pytest.mark.parametrize("count", [5, 7, 0, -1, 2**62])
def test_a_storage_that_lies_about_its_count_is_refused(count: int, file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"storage 0 is of|ends in the middle of storage 0"):
        read(file, b"".join(parts({"a": tensor()})) + storage(count))


@pytest.mark.parametrize("size", [7, -1, -6, 2**40, 2**62, 2**80, "6x"])
def test_a_storage_whose_size_lies_is_refused(size: Any, file: Path) -> None:
    with pytest.raises(CheckpointError):
        read(file, b"".join(parts({"a": tensor(size=size)})) + storage())


@pytest.mark.parametrize(
    "view",
    [
        {"offset": -1},
        {"offset": 1},
        {"offset": 2**70},
        {"strides": (-3, 1)},
        {"strides": (3, -1)},
        {"strides": (4, 1)},
        {"strides": (2**62, 1)},
        {"strides": (3,)},
        {"shape": (2, 4)},
        {"shape": (-1, 3)},
        {"shape": (-2, -3)},
        {"shape": (2**62, 2**62)},
        {"shape": (2**40, 1), "strides": (0, 1)},
        {"shape": (2**62, 2**62), "strides": (0, 0)},
        {"shape": (1, 1), "strides": (2**70, 1)},
        {"offset": "0"},
        {"shape": ("2", 3)},
        {"shape": 6},
    ],
    ids=str,
)
def test_a_view_that_leaves_its_storage_is_refused(view: dict[str, Any], file: Path) -> None:
    with pytest.raises(CheckpointError):
        read(file, b"".join(parts({"a": tensor(**view)})) + storage())


@pytest.mark.parametrize(
    "tree",
    [["a"], {"a": 1}, 5, {"a": Persistent("x")}, {"a": Persistent(("module", Name("torch", "FloatStorage")))}],
    ids=str,
)
def test_a_tree_of_something_else_is_refused(tree: Any, file: Path) -> None:
    with pytest.raises(CheckpointError):
        read(file, b"".join(parts(tree)) + storage())


def test_a_storage_of_an_unknown_kind_is_refused(file: Path) -> None:
    pid = ("module", Name("torch", "FloatStorage"), "0", "cpu", 6, ())
    with pytest.raises(CheckpointError, match="unknown kind of storage 'module'"):
        read(file, b"".join(parts({"a": Persistent(pid)})) + storage())


def test_a_file_leaves_nothing_behind_for_the_next(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # BUILD sets attributes of what a name stands for.
    monkeypatch.setattr(_rebuild_tensor, "left_behind", False, raising=False)
    state = b"(N" + opcodes({"left_behind": True}) + b"t"
    pickles = parts({"a": tensor()})
    pickles[3] = b"\x80\x02" + opcodes(Name("torch._utils", "_rebuild_tensor_v2")) + state + b"b."
    with pytest.raises(CheckpointError):
        read(file, b"".join(pickles) + storage())
    assert not _rebuild_tensor.left_behind
