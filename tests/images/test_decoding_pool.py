from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier
from tip_adapter.errors import ImageError, ImageTooLarge, TipAdapterWarning
from tip_adapter.features.encode import encode_photos, stream_vectors
from tip_adapter.images import decode, decoding_pool
from tip_adapter.images.decode import decode_file
from tip_adapter.images.decoding_pool import DecodingPool, start_decoding
from tip_adapter.testing import FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
#: What Python runs in a decoding process before anything else: some photos bring their decoder down.
SABOTAGE = """
import os, signal, sys, time
from PIL import Image

def opened(file, *args, real=Image.open, **kwargs):
    content = file.getvalue()
    if b"CRASH" in content:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"HANG" in content:
        time.sleep(60)
    if b"BLOAT" in content:
        bytearray(2**30)
    if b"PRINT" in content:
        os.write(1, b"a decoder says hello\\n")
    if b"EXIT" in content:
        os._exit(3)
    return real(file, *args, **kwargs)

Image.open = opened
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces limits on memory")


@pytest.fixture(autouse=True)
def decoded_in_processes() -> None:
    """Yes."""


@pytest.fixture(autouse=True)
def no_spares(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without a process, and leaves none."""
    monkeypatch.setattr(decoding_pool, "_spares", decoding_pool._IdleProcesses(limit=2))
    yield
    for process in decoding_pool._spares.close():
        process.end()


@pytest.fixture
def decoders() -> Iterator[DecodingPool]:
    with DecodingPool() as opened:
        yield opened


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.syspath_prepend(tmp_path / "modules")


def png_bytes(comment: str = "") -> bytes:
    """A photo; its comment may tell the sabotage what to do."""
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "PNG")
    return file.getvalue() + comment.encode()


def write(path: Path, comment: str = "") -> Path:
    path.write_bytes(png_bytes(comment))
    return path


def pids(decoders: DecodingPool) -> list[int]:
    return [process._process.pid for process in (*decoding_pool._spares._processes, *decoders._busy)]


def spares() -> list[int]:
    return [process._process.pid for process in decoding_pool._spares._processes]


def decode_in_a_stream(*paths: Path) -> None:
    """All at once."""
    with DecodingPool() as decoders, ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(decoders.decode, paths))


def run(code: str, *options: str) -> str:
    """What a program prints; it must be silent otherwise."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody asked about yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def gone_within(seconds: float, pid: int) -> bool:
    until = time.monotonic() + seconds
    while is_there(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_there(pid)


# ---- the same answers as without processes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_a_photo_has_the_pixels_and_the_digest_it_has_without_processes(
    decoders: DecodingPool, tmp_path: Path, kind: str
) -> None:
    Image.fromarray(NOISE).save(tmp_path / "photo", kind)
    pixels, digest = decoders.decode(tmp_path / "photo")
    np.testing.assert_array_equal(pixels, decode_file(tmp_path / "photo")[0])
    assert digest == hashlib.sha256((tmp_path / "photo").read_bytes()).hexdigest()


def test_a_photo_larger_than_a_pipe_arrives_whole(decoders: DecodingPool, tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (1500, 2100, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "large.bmp")
    np.testing.assert_array_equal(decoders.decode(tmp_path / "large.bmp")[0], large)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a\nb", '"', "猫", os.fsdecode(b"caf\xe9"), "x" * 200])
def test_any_file_name_finds_its_photo(decoders: DecodingPool, tmp_path: Path, name: str) -> None:
    assert decoders.decode(write(tmp_path / name))[0].shape == NOISE.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nowhere.jpg", "a\0b.jpg", "half \ud800.jpg", "x" * 100_000, "."])
def test_an_error_is_the_one_without_processes(decoders: DecodingPool, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError) as expected:
        decode_file(tmp_path / name)
    with pytest.raises(ImageError) as caught:
        decoders.decode(tmp_path / name)
    assert str(caught.value) == str(expected.value)
    assert type(caught.value) is type(expected.value)


def test_a_photo_above_the_limits_keeps_its_own_error(decoders: DecodingPool, tmp_path: Path) -> None:
    (tmp_path / "large.pbm").write_bytes(b"P4 9460 9460\n")
    with pytest.raises(ImageTooLarge, match="above the limit of 89,478,485 pixels"):
        decoders.decode(tmp_path / "large.pbm")


# ---- the content of a file in place of its path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_bytes_have_the_pixels_and_the_digest_of_their_file(decoders: DecodingPool, tmp_path: Path, kind: str) -> None:
    large = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)  # above the size of a pipe
    Image.fromarray(large).save(tmp_path / "photo", kind)
    content = (tmp_path / "photo").read_bytes()
    pixels, digest = decoders.decode(content)
    expected = decoders.decode(tmp_path / "photo")
    np.testing.assert_array_equal(pixels, expected[0])
    assert digest == expected[1] == hashlib.sha256(content).hexdigest()
    assert len(pids(decoders)) == 1


def test_bytes_that_cannot_be_decoded_have_the_error_without_processes(decoders: DecodingPool) -> None:
    for content in (b"", b"a cat", b"\xff\xd8", png_bytes()[:200]):
        with pytest.raises(ImageError) as expected:
            decode_file(content, "photo 3")
        with pytest.raises(ImageError, match="cannot read photo 3: ") as caught:
            decoders.decode(content, "photo 3")
        assert (str(caught.value), type(caught.value)) == (str(expected.value), type(expected.value))
    assert decoders.decode(png_bytes())[0].shape == NOISE.shape


def test_bytes_above_the_limit_are_refused_before_a_process_starts(
    decoders: DecodingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_BYTES", 2**20)
    with pytest.raises(ImageTooLarge, match="cannot read photo 0: 3 MiB is above the limit of 1 MiB"):
        decoders.decode(bytes(3 * 2**20), "photo 0")
    assert pids(decoders) == []


@pytest.mark.usefixtures("sabotage")
@pytest.mark.parametrize("comment", ["CRASH", "EXIT"])
def test_bytes_that_bring_their_decoder_down_are_an_error_and_the_next_are_read(
    decoders: DecodingPool, comment: str
) -> None:
    with pytest.raises(ImageError, match=r"cannot read photo 7: its decoder (crashed|ended)"):
        decoders.decode(png_bytes(comment), "photo 7")
    assert decoders.decode(png_bytes())[0].shape == NOISE.shape


# ---- how many there are, and how long


def test_photos_one_after_another_share_a_process(decoders: DecodingPool, tmp_path: Path) -> None:
    assert pids(decoders) == []
    decoders.decode(write(tmp_path / "a.png"))
    first = pids(decoders)
    with pytest.raises(ImageError):
        decoders.decode(tmp_path / "nowhere.png")
    decoders.decode(tmp_path / "a.png")
    assert pids(decoders) == first
    assert len(first) == 1


@pytest.mark.slow
def test_photos_at_a_time_have_a_process_each(decoders: DecodingPool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    with ThreadPoolExecutor(3) as pool:
        shapes = {pixels.shape for pixels, _ in pool.map(decoders.decode, [path] * 100)}
    assert shapes == {NOISE.shape}
    assert 1 <= len(pids(decoders)) <= 3


@pytest.mark.usefixtures("sabotage")
def test_closing_does_not_wait_for_a_photo(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def ask() -> None:
        with pytest.raises(ImageError) as error:
            decoders.decode(write(tmp_path / "slow.png", "HANG"))
        caught.append(error.value)

    with DecodingPool() as decoders:
        asking = threading.Thread(target=ask)
        asking.start()
        while not decoders._busy:
            time.sleep(0.01)
        (pid,) = pids(decoders)
    asking.join(timeout=8)
    assert caught
    assert not is_there(pid)


@pytest.mark.slow
@pytest.mark.usefixtures("sabotage")
def test_a_stream_that_is_closed_early_ends_the_processes_that_are_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[DecodingPool] = []
    monkeypatch.setattr(DecodingPool, "__enter__", lambda self: opened.append(self) or self)
    good, slow = write(tmp_path / "good.png"), write(tmp_path / "slow.png", "HANG")
    stream = stream_vectors([good] * 32 + [slow] * 32, FakeEncoder(), threads=2)
    next(stream)
    running = pids(opened[0])
    assert running
    stream.close()
    assert [pid for pid in running if is_there(pid)] == []


@pytest.mark.slow
def test_a_process_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    code = f"""
import time
from tip_adapter.images.decoding_pool import DecodingPool, _spares
decoders = DecodingPool()
decoders.decode({str(write(tmp_path / "a.png"))!r})
print(_spares._processes[0]._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_there(pid)
        parent.kill()
    assert gone_within(5, pid)


def test_an_interrupt_is_the_parents_affair(decoders: DecodingPool, tmp_path: Path) -> None:
    decoders.decode(write(tmp_path / "a.png"))
    (pid,) = pids(decoders)
    os.kill(pid, signal.SIGINT)
    decoders.decode(tmp_path / "a.png")
    assert pids(decoders) == [pid]


def test_nothing_is_imported_from_the_folder_one_works_in(
    decoders: DecodingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("json", "numpy", "tip_adapter"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert decoders.decode(write(tmp_path / "a.png"))[0].shape == NOISE.shape


# ---- spares: idle processes between streams


def test_the_next_stream_takes_the_process_that_the_last_one_left(tmp_path: Path) -> None:
    with DecodingPool() as first:
        first.decode(write(tmp_path / "a.png"))
        before = pids(first)
    assert spares() == before
    with DecodingPool() as second:
        second.decode(tmp_path / "a.png")
        assert pids(second) == before
    assert spares() == before


def test_predicting_one_photo_after_another_uses_one_process(
    tmp_path: Path, paint: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FewShotClassifier(encoder="toy").fit([paint("red"), paint("blue")], ["red", "blue"])
    paint("red", 1).save(tmp_path / "red.png")
    started: list[object] = []
    start = decoding_pool.DecodingProcess
    monkeypatch.setattr(decoding_pool, "DecodingProcess", lambda: started.append(start()) or started[-1])
    assert [model.predict([tmp_path / "red.png"])[0] for _ in range(5)] == ["red"] * 5
    assert len(started) == 1


@pytest.mark.slow
def test_no_more_wait_than_there_is_room_for_and_the_latest_do() -> None:
    processes = [decoding_pool.DecodingProcess() for _ in range(3)]
    for process in processes:
        decoding_pool._spares.keep(process)
    first, *others = [process._process.pid for process in processes]
    assert spares() == others
    assert not is_there(first)


@pytest.mark.slow
def test_a_spare_ends_by_itself_and_costs_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_pool, "SECONDS_IDLE", 1)
    decode_in_a_stream(write(tmp_path / "a.png"))
    (pid,) = spares()
    assert is_there(pid)
    assert gone_within(10, pid)
    decode_in_a_stream(tmp_path / "a.png")
    assert spares() != [pid]


@pytest.mark.slow
def test_a_spare_that_is_about_to_end_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_in_a_stream(write(tmp_path / "a.png"))
    (pid,) = spares()
    now = time.monotonic()
    monkeypatch.setattr(decoding_pool, "monotonic", lambda: now + decoding_pool.SECONDS_IDLE - 2)
    decode_in_a_stream(tmp_path / "a.png")
    assert spares() != [pid]
    assert not is_there(pid)


@pytest.mark.slow
def test_a_path_is_relative_to_the_folder_one_works_in_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    for _ in range(2):  # anew, under the same name
        folder.mkdir()
        monkeypatch.chdir(folder)
        decode_in_a_stream(write(Path("a.png")))
        Path("a.png").unlink()
        folder.rmdir()


def test_starting_to_decode_waits_for_nothing_and_the_first_photo_uses_it(tmp_path: Path) -> None:
    start_decoding()
    (process,) = decoding_pool._spares._processes
    assert not process._is_ready
    start_decoding()
    assert decoding_pool._spares._processes == [process]
    with DecodingPool() as decoders:
        decoders.decode(write(tmp_path / "a.png"))
        assert pids(decoders) == [process._process.pid]


def test_where_none_can_be_started_starting_to_decode_leaves_it_to_the_first_photo_to_say_so(
    decoders: DecodingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    start_decoding()
    with pytest.warns(TipAdapterWarning, match="no decoding process can be started"):
        assert decoders.decode(write(tmp_path / "a.png"))[0].shape == NOISE.shape


@pytest.mark.slow
def test_a_child_of_fork_uses_processes_of_its_own_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    printed = run(f"""
import os, signal
from tip_adapter.images import decoding_pool

def decode():
    with decoding_pool.DecodingPool() as decoders:
        assert decoders.decode({str(write(tmp_path / "a.png"))!r})[0].shape == (37, 53, 3)
    return [process._process.pid for process in decoding_pool._spares._processes]

before = decode()
with decoding_pool._spares._lock:  # as another thread might
    child = os.fork()
if child == 0:
    signal.alarm(20)
    assert decoding_pool._spares._processes == []
    assert decode() != before
else:
    assert os.waitpid(child, 0)[1] == 0
    assert decode() == before
    print("same")
""")
    assert printed == "same\n"


@pytest.mark.slow
def test_a_child_of_fork_closes_its_parents_stream_without_harm(tmp_path: Path) -> None:
    printed = run(f"""
import os
from tip_adapter.images import decoding_pool

decoders = decoding_pool.DecodingPool()
decoders.decode({str(write(tmp_path / "a.png"))!r})
child = os.fork()
if child == 0:
    decoders.close()
    assert decoding_pool._spares._processes == []
else:
    assert os.waitpid(child, 0)[1] == 0
    (before,) = decoding_pool._spares._processes
    decoders.decode({str(tmp_path / "a.png")!r})
    assert decoding_pool._spares._processes == [before]
    decoders.close()
    print("same")
""")
    assert printed == "same\n"


@pytest.mark.slow
@pytest.mark.parametrize("last", ["", "next(open_stream)", "start_decoding()"])
def test_spares_end_with_the_program_in_silence(tmp_path: Path, last: str) -> None:
    write(tmp_path / "a.png")
    pid = run(
        f"""
from tip_adapter.features.encode import encode_photos, stream_vectors
from tip_adapter.images.decoding_pool import _spares, start_decoding
from tip_adapter.testing import FakeEncoder

paths = [{str(tmp_path / "a.png")!r}]
open_stream = stream_vectors(200 * paths, FakeEncoder(), threads=2)
encode_photos(paths, FakeEncoder())
print(_spares._processes[0]._process.pid)
{last}
""",
        "-W",
        "error",
    )
    assert gone_within(5, int(pid))


# ---- photos that bring their decoder down


@pytest.mark.slow
@pytest.mark.usefixtures("sabotage")
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("CRASH", r"its decoder crashed \(signal 11\)"),
        ("EXIT", r"its decoder ended \(status 3\)"),
        ("PRINT", "its decoder gave no answer"),
        ("HANG", r"took longer than 0\.5 s"),
    ],
)
def test_fault_19_a_photo_that_brings_its_decoder_down_is_an_error_and_the_next_is_read(
    harm: str, reason: str, decoders: DecodingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders.decode(write(tmp_path / "good.png"))
    before = pids(decoders)
    monkeypatch.setattr(decoding_pool, "SECONDS", 0.5)
    with pytest.raises(ImageError, match=rf"^cannot read .*bad\.png: {reason}; remove it$") as caught:
        decoders.decode(write(tmp_path / "bad.png", harm))
    assert caught.value.code == "unreadable_image"
    monkeypatch.setattr(decoding_pool, "SECONDS", 10)
    assert decoders.decode(tmp_path / "good.png")[0].shape == NOISE.shape
    assert pids(decoders) != before
    assert not is_there(before[0])


@linux
@pytest.mark.usefixtures("sabotage")
def test_a_photo_that_needs_too_much_memory_is_too_large_and_its_process_lives(
    decoders: DecodingPool, tmp_path: Path
) -> None:
    decoders.decode(write(tmp_path / "good.png"))
    before = pids(decoders)
    with pytest.raises(ImageTooLarge, match=r"bad\.png: needs more than 512 MiB to decode; scale it down"):
        decoders.decode(write(tmp_path / "bad.png", "BLOAT"))
    decoders.decode(tmp_path / "good.png")
    assert pids(decoders) == before


@pytest.mark.slow
def test_a_process_that_died_idle_costs_no_photo(decoders: DecodingPool, tmp_path: Path) -> None:
    decoders.decode(write(tmp_path / "a.png"))
    (pid,) = pids(decoders)
    os.kill(pid, signal.SIGKILL)
    assert gone_within(5, pid)
    assert decoders.decode(tmp_path / "a.png")[0].shape == NOISE.shape


@pytest.mark.slow
@pytest.mark.usefixtures("sabotage")
def test_fault_19_among_other_photos_only_those_that_crash_are_errors(tmp_path: Path) -> None:
    good = [write(tmp_path / f"{number}.png") for number in range(30)]
    photos = [*good[:10], write(tmp_path / "bad.png", "CRASH"), *good[10:], write(tmp_path / "worse.png", "CRASH")]
    batch = encode_photos(photos, FakeEncoder(), threads=2)
    assert sorted(batch.errors) == [10, 31]
    assert "bad.png" in str(batch.errors[10])
    assert len(batch.positions) == 30


# ---- where none can be started


@pytest.mark.parametrize("executable", [None, "", "/nowhere/python", "/bin/true", "/bin/echo"])
def test_where_no_process_can_be_started_photos_are_decoded_without(
    executable: str | None, decoders: DecodingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.warns(TipAdapterWarning, match="no decoding process can be started"):
        assert decoders.decode(write(tmp_path / "a.png"))[0].shape == NOISE.shape
    assert decoders.decode(tmp_path / "a.png")[0].shape == NOISE.shape  # and warns once


def test_a_frozen_program_is_not_started_again(
    decoders: DecodingPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.warns(TipAdapterWarning, match="this program brings its own interpreter"):
        decoders.decode(write(tmp_path / "a.png"))


def test_what_only_some_systems_have_is_not_needed_to_import() -> None:
    """Windows has no `resource`: there the library decodes in threads."""
    program = "import sys; sys.modules['resource'] = None; import tip_adapter.features.encode"
    subprocess.run([sys.executable, "-c", program], check=True)
