"""Pickles are programs; of these nothing runs."""

import io
import os
import pickle
import struct
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import heatproof as hp
from heatproof.models.pickles import Inert, NotReadable, _Reader, read_inert

MADE: list[str] = []


class Trap:
    """Notes every way in which it is touched."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Trap":
        MADE.append("new")
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        MADE.append("init")

    def __setstate__(self, state: Any) -> None:
        MADE.append("setstate")

    def __call__(self, *args: Any) -> None:
        MADE.append("call")


# this module by a name that an import would find
sys.modules["the_trap"] = sys.modules.get(__name__) or type(sys)("the_trap")
sys.modules["the_trap"].Trap = Trap  # type: ignore[attr-defined]


class Happened:
    """What an audit hook, which cannot be taken off, has seen while it was on."""

    on, seen = False, list[tuple[str, Any]]()


def _hook(event: str, args: Any) -> None:
    if not Happened.on or threading.current_thread() is not threading.main_thread():
        return
    # jaxtyping runs texts as well
    text = event == "exec" and str(CANARY) in repr(args[0].co_consts)
    if text or event in ("os.system", "os.exec", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.connect"):
        Happened.seen.append((event, args))


sys.addaudithook(_hook)


@pytest.fixture(scope="module", autouse=True)
def all_is_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What Python and torch import when they read their first file is not the file's doing."""
    file = tmp_path_factory.mktemp("first") / "w.pth"
    for old in (False, True):
        torch.save({"a": Trap}, file, _use_new_zipfile_serialization=not old)
        read_inert(file)
        with pytest.raises(hp.ModelError):
            hp.load(f"demo@{file}")


@contextmanager
def watched() -> Generator[list[tuple[str, Any]]]:
    MADE.clear()
    Happened.seen.clear()
    Happened.on = True
    try:
        yield Happened.seen
    finally:
        Happened.on = False


CANARY = Path(tempfile.gettempdir()) / f"heatproof-canary-{os.getpid()}"


def archive(path: Path, pickled: bytes, numbers: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("archive/data.pkl", pickled)
        out.writestr("archive/data/0", numbers)
        out.writestr("archive/byteorder", sys.byteorder)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def called(name: str, *arguments: str) -> bytes:
    """REDUCE of a global with texts."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR"


SYSTEM = ("os.system", f"touch {CANARY}")
TRAP = b"cthe_trap\nTrap\n"
HOSTILE: dict[str, bytes] = {
    "REDUCE": called(*SYSTEM),
    "REDUCE of another name": called("posix.system", f"touch {CANARY}"),
    "REDUCE of exec": called("builtins.exec", f"open({str(CANARY)!r}, 'w')"),
    "REDUCE of eval": called("builtins.eval", f"open({str(CANARY)!r}, 'w')"),
    "REDUCE of a method": called("subprocess.Popen", f"touch {CANARY}"),
    "REDUCE of getattr": called("builtins.getattr", "os", "system"),
    "REDUCE of importlib": called("importlib.import_module", "antigravity"),
    "REDUCE of torch": called("torch.hub.load", str(CANARY), "x"),
    "REDUCE of a nested file": called("torch.storage._load_from_bytes", "x"),
    "REDUCE of a name with dots": b"\x80\x04"
    + text("os")
    + text("path.os.system")
    + b"\x93("
    + text(f"touch {CANARY}")
    + b"tR",
    "REDUCE of what REDUCE made": called(*SYSTEM) + b"(" + text("x") + b"tR",
    "REDUCE of a text": text("os.system") + b"(" + text(f"touch {CANARY}") + b"tR",
    "REDUCE of a number": b"K\x01(tR",
    "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93(" + text(f"touch {CANARY}") + b"tR",
    "INST": b"(" + text(f"touch {CANARY}") + b"ios\nsystem\n",
    "OBJ": b"(cos\nsystem\n" + text(f"touch {CANARY}") + b"o",
    "a trap, REDUCE": TRAP + b")R",
    "a trap, INST": b"(ithe_trap\nTrap\n",
    "a trap, OBJ": b"(" + TRAP + b"o",
    "a trap, NEWOBJ": b"\x80\x02" + TRAP + b")\x81",
    "a trap, NEWOBJ_EX": b"\x80\x04" + TRAP + b")}\x92",
    "a trap, BUILD": b"\x80\x02" + TRAP + b")\x81}b",
    "a trap, BUILD of its class": TRAP + b"}b",
    "a trap, called": TRAP + b")R)R",
    "BUILD with slots": b"ctorch\nTensor\nN}" + text("__eq__") + b"cos\nsystem\ns\x86b",
    "BUILD of a class": b"ctorch.nn.parameter\nParameter\n}" + text("__init__") + b"cos\nsystem\nsb",
    "BUILD of an OrderedDict": b"ccollections\nOrderedDict\n)R}" + text("__class__") + b"cthe_trap\nTrap\nsb",
    "a tensor made by os.system": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncthe_trap\nTrap\n("
    + text(f"touch {CANARY}")
    + b"tNtR",
    "a parameter of it": b"ctorch._utils\n_rebuild_parameter\n("
    + called(*SYSTEM)
    + b"I01\nccollections\nOrderedDict\n)RtR",
    "a default factory": b"ccollections\ndefaultdict\n(cos\nsystem\ntR",
    "an extension": b"\x82\x01)R",
    "the class of a module": b"(" + text("module") + TRAP + text("mine.py") + text("import os") + b"tQ",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_nothing_runs(kind: str, old: bool, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    hostile = HOSTILE[kind]
    start = b"\x80\x02" if hostile[:1] != b"\x80" else hostile[:2]
    pickled = start + b"}(" + text("a") + hostile.removeprefix(start) + b"u."
    if old:
        head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
        file.write_bytes(b"".join(head) + pickled + pickle.dumps([], 2))
    else:
        archive(file, pickled)
    before = torch.nn.Parameter.__init__, torch.Tensor.__eq__
    with watched() as seen:
        try:
            read = read_inert(file)[0]
        except NotReadable:
            read = None
    assert not seen
    assert not MADE
    assert not CANARY.exists()
    assert (torch.nn.Parameter.__init__, torch.Tensor.__eq__) == before
    assert "antigravity" not in sys.modules
    for value in (read or {}).values():
        assert type(value).__module__ in ("builtins", "heatproof.models.pickles", "torch"), type(value)
    with watched() as seen, pytest.raises(hp.ModelError, match=r"w\.pth"):
        hp.load(f"demo@{file}")
    assert not MADE
    assert not CANARY.exists()
    assert not seen


def test_the_watch_sees_what_python_s_own_reader_runs(tmp_path: Path) -> None:
    with watched() as seen:
        pickle.loads(b"\x80\x02" + TRAP + b")\x81}b.")
        pickle.loads(called("builtins.exec", f"_ = {str(CANARY)!r}") + b".")
    assert MADE == ["new", "setstate"]
    assert {"pickle.find_class", "exec"} <= {event for event, _ in seen}


HARMLESS = """
    PROTO FRAME PERSID BINPERSID NONE NEWFALSE NEWTRUE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING BINBYTES UNICODE BINUNICODE BINUNICODE8 BINBYTES8 SHORT_BINSTRING SHORT_BINBYTES SHORT_BINUNICODE
    TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT LIST GLOBAL STACK_GLOBAL EXT1 EXT2 EXT4
    POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE MARK STOP
"""


def test_every_operation_that_could_call_is_one_of_ours() -> None:
    ours = {name for name in dir(pickle) if name.isupper() and isinstance(getattr(pickle, name), bytes)}
    ours = {n for n in ours if len(getattr(pickle, n)) == 1 and _Reader.dispatch.get(getattr(pickle, n)[0])}
    theirs = {
        n for n in ours if _Reader.dispatch[getattr(pickle, n)[0]] is pickle._Unpickler.dispatch[getattr(pickle, n)[0]]
    }
    # numbers, texts, tuples, the stack and the memo; names come through find_class and get_extension, which are ours
    assert theirs == set(HARMLESS.split())
    for name in ("find_class", "get_extension", "persistent_load"):
        assert name in vars(_Reader)


def view(storage: str = "ctorch\nFloatStorage\n", count: int = 4, offset: int = 0, size=(4,), stride=(1,)) -> bytes:
    numbers = b"(" + text("storage") + storage.encode() + text("0") + text("cpu") + f"I{count}\n".encode() + b"tQ"
    shape = b"".join(b"(" + b"".join(f"I{n}\n".encode() for n in part) + b"t" for part in (size, stride))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + numbers + f"I{offset}\n".encode() + shape + b"I00\nNtR"


@pytest.mark.parametrize(
    "made",
    [
        view(count=5),
        view(count=-1),
        view(count=2**62),
        view(offset=1),
        view(offset=-1),
        view(size=(5,)),
        view(size=(2**40, 2**40), stride=(1, 1)),
        view(size=(4,), stride=(2,)),
        view(size=(4,), stride=(-1,)),
        view(size=(4, 4), stride=(1,)),
        view(storage="cos\nsystem\n"),
        view(storage="ctorch\nQInt8Storage\n"),
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00(t(ttR",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        text("x") + b"Q",
        b"\x97",
        b"((K\x01ttK\x02d",
        b"K\x01K\x02a",
        b"K\x01(K\x02e",
        b"K\x01K\x02K\x03s",
    ],
)
def test_numbers_that_are_not_there_are_not_made(made: bytes, tmp_path: Path) -> None:
    archive(tmp_path / "w.pth", b"\x80\x02}(" + text("a") + made + b"u.", struct.pack("<4f", 1, 2, 3, 4))
    with pytest.raises(hp.ModelError, match=r"w\.pth"):
        hp.load(f"demo@{tmp_path}/w.pth")
    archive(tmp_path / "w.pth", b"\x80\x02}(" + text("a") + view() + b"u.", struct.pack("<4f", 1, 2, 3, 4))
    assert read_inert(tmp_path / "w.pth")[0]["a"].tolist() == [1, 2, 3, 4]


def doubled(times: int, end: bytes) -> bytes:
    """A tuple of twice a tuple of twice ..."""
    return b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(times)) + end


@pytest.mark.parametrize(
    "pickled",
    [
        b"}" + doubled(200, b"K\x01s."),  # the hash of its key takes 2^200 steps
        b"\x8f(" + doubled(200, b"\x90."),
        b"cos\nsystem\n}" + doubled(200, b"\x86R."),
        b"}" + b"".join(b"q%c}(" % i + text("a") + b"h%c" % i + text("b") + b"h%cu" % i for i in range(250)) + b".",
        b"(" * 100_000 + b"t" * 99_999 + b".",
        b"]q\x00h\x00a.",
        b"}q\x00" + text("a") + b"h\x00s.",
        b"\x96" + struct.pack("<Q", 2**62) + b".",
        b"\x8e" + struct.pack("<Q", 2**62) + b".",
        b"r" + struct.pack("<I", 2**32 - 1) + b".",
        b"I" + b"9" * 100_000 + b"\n.",
    ],
    ids=range(11),
)  # fmt: skip
def test_bombs_take_no_time(pickled: bytes, tmp_path: Path) -> None:
    archive(tmp_path / "w.pth", b"\x80\x04" + pickled)
    begun = time.monotonic()
    with pytest.raises(hp.ModelError, match=r"w\.pth"):
        hp.load(f"demo@{tmp_path}/w.pth")
    assert time.monotonic() - begun < 5


def test_objects_stay_what_they_would_be_made_of(tmp_path: Path) -> None:
    archive(tmp_path / "w.pth", b"\x80\x02" + TRAP + text("x") + b"\x85\x81}" + text("lr") + b"K\x03sb.")
    read, left = read_inert(tmp_path / "w.pth")
    assert isinstance(read, Inert)
    assert (read.name, read.arguments, read.state) == ("the_trap.Trap", ("x",), {"lr": 3})
    assert left == {"the_trap.Trap"}
    assert repr(read) == "<the_trap.Trap, not made>"


def test_numbers_of_another_byte_order_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(tmp_path / "w.pth", "w") as out:
        for entry in source.infolist():
            other = b"big" if sys.byteorder == "little" else b"little"
            out.writestr(entry.filename, other if entry.filename.endswith("byteorder") else source.read(entry))
    with pytest.raises(NotReadable, match="order of this machine"):
        read_inert(tmp_path / "w.pth")


def test_torn_files_end_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"a": torch.ones(9), "b": Trap}, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        with pytest.raises(hp.ModelError, match=r"w\.pth"):
            hp.load(f"demo@{file}")


def legacy(path: Path, made: bytes, keys: tuple[str, ...] = (), numbers: bytes = b"", **said: Any) -> None:
    """A file as torch before 1.6 wrote it."""
    head = [pickle.dumps(part, 2) for part in (said.pop("magic", 0x1950A86A20F9469CFC6C), 1001, said)]
    content = b"\x80\x02}(" + text("a") + made + b"u."
    path.write_bytes(b"".join([*head, content, pickle.dumps(list(keys), 2), numbers]))


FOUR = struct.pack("<4f", 1, 2, 3, 4)
PART = view().replace(b"tQ", b"(K\x01K\x02ttQ")  # its numbers are a part of others


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (view(count=5), "the numbers 0 are fewer than it says"),
        (view(count=-1), "it holds numbers of an unknown type"),
        (view(storage="cos\nsystem\n"), r"of an unknown type \(system\)"),
        (view(offset=1), r"a tensor of \[4\] has fewer numbers than that"),
        (view(size=(4,), stride=(2,)), r"a tensor of \[4\] has fewer"),
        (view(stride=(-1,)), "a tensor of no numbers"),
        (view().replace(b"tensor_v2", b"tensor_v3")[:-2] + b"cos\nsystem\ntR", "a tensor of an unknown type"),
        (PART, "it holds numbers that are parts of others"),
        (text("x") + b"Q", "it refers to something outside of it"),
        (b"\x97", "it refers to something outside of it"),
        (b"(((K\x01tt" + b"K\x02d", "a dictionary whose keys are neither texts nor numbers"),
        (b"K\x01K\x02a", "something is appended to a int"),
        (b"K\x01(K\x02e", "something is appended to a int"),
        (b"K\x01K\x02K\x03s", "an item is set in a int"),
    ],
)
def test_our_own_reader_says_what_is_wrong(made: bytes, said: str, tmp_path: Path) -> None:
    """Files that torch's reader refuses first, given to ours alone: it makes nothing of numbers that are not there."""
    archive(tmp_path / "w.pth", b"\x80\x02}(" + text("a") + made + b"u.", FOUR)
    with pytest.raises(NotReadable, match=said):
        read_inert(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("made", "keys", "numbers", "more", "said"),
    [
        (view(), (), b"", {"magic": 1}, "it was not written by torch.save"),
        (view(count=2**40), (), b"", {}, "it says to hold more numbers than it has bytes"),
        (view(count=1, size=(1,)) + text("b") + view(count=4), (), FOUR, {}, "the numbers 0 are fewer than it says"),
        (view(), (), b"", {"little_endian": sys.byteorder != "little"}, "not in the order of this machine"),
        (view(), ("0",), struct.pack("<q", 4) + FOUR[:-1], {}, "the numbers 0 are torn"),
        (view(), ("0",), struct.pack("<q", 0), {}, "the numbers 0 are torn"),
    ],
)
def test_files_before_1_6_that_promise_too_much(
    made: bytes, keys: tuple[str, ...], numbers: bytes, more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    legacy(tmp_path / "w.pth", made, keys, numbers, **more)
    with pytest.raises(NotReadable, match=said):
        read_inert(tmp_path / "w.pth")


def test_tensors_and_containers_of_every_kind_are_read(tmp_path: Path) -> None:
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n"
    arguments = view().removeprefix(rebuilt)[:-1]
    typed = view(storage="ctorch\nUntypedStorage\n", count=16).replace(b"tensor_v2", b"tensor_v3")
    entries = {
        "typed": typed[:-2] + b"ctorch\nfloat32\ntR",
        "subclass": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + rebuilt + b"cmine\nTensor\n" + arguments + b"NtR",
        "ordered": b"ccollections\nOrderedDict\n(](" + text("k") + b"K\x01\x86etR",
        "counter": b"ccollections\nCounter\n(}" + text("k") + b"K\x02stR",
        "set": b"\x8f(K\x01K\x02\x90",
        "frozen": b"(K\x03\x91",
        "old set": b"c__builtin__\nset\n(](K\x04etR",
        "bytes": b"\x96" + struct.pack("<Q", 2) + b"ab",
        "dict": b"(K\x01K\x02d",
        "list": b"]K\x05a",
    }  # fmt: skip
    archive(
        tmp_path / "w.pth", b"\x80\x05}(" + b"".join(text(name) + made for name, made in entries.items()) + b"u.", FOUR
    )
    read, left = read_inert(tmp_path / "w.pth")
    assert left == set()
    assert [read.pop(name).tolist() for name in ("typed", "subclass")] == [[1, 2, 3, 4]] * 2
    assert read == {
        "ordered": {"k": 1},
        "counter": {"k": 2},
        "set": [1, 2],
        "frozen": [3],
        "old set": [4],
        "bytes": b"ab",
        "dict": {1: 2},
        "list": [5],
    }


def test_empty_tensors_of_files_before_1_6(tmp_path: Path) -> None:
    legacy(tmp_path / "w.pth", view(count=0, size=(0,)), ("0",), struct.pack("<q", 0))
    assert read_inert(tmp_path / "w.pth")[0]["a"].shape == (0,)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as out:
        out.writestr("readme.txt", "no weights")
    with pytest.raises(NotReadable, match=r"it has no data\.pkl"):
        read_inert(tmp_path / "other.zip")
