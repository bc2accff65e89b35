"""What every device that runs code promises, on each of them."""

import struct
from pathlib import Path

import numpy as np
import pytest
from emitted import EVERYWHERE, POLYNOMIAL, STORE, SUM, SWITCH, TABLE, Loaded, open_or_skip

from jit.linker import Blob
from jit.session import DeviceError, DeviceLost, Session


@pytest.fixture(params=EVERYWHERE)
def session(request: pytest.FixtureRequest):
    with open_or_skip(request.param) as opened:
        yield opened


def word(session: Session, address: int) -> int:
    return int.from_bytes(session.read(address, 8), "little", signed=True)


def test_says_what_it_is(session: Session) -> None:
    info = session.info
    assert info.arch in ("aarch64", "x86_64")
    assert {"aarch64": "neon", "x86_64": "sse4.2"}[info.arch] in info.features
    assert info.cores >= 1
    assert info.page_bytes >= 4096
    assert info.description
    assert session.counting is not None


@pytest.mark.parametrize("opt", [0, 2])
def test_runs_constants_pointer_tables_and_jump_tables(session: Session, opt: int) -> None:
    code = Loaded(session, TABLE, SWITCH, POLYNOMIAL, STORE, opt=opt)
    out, values = session.alloc(16), session.alloc(16)
    for index, expected in enumerate((11, 22, 33)):
        code("pick", out, index)
        assert word(session, out) == expected
    for index, expected in ((0, 7), (1, 70), (2, 70), (3, 1234567), (4, 5), (9, -1)):
        code("choose", out, index)
        assert word(session, out) == expected
    session.write(values, struct.pack("<4f", 1, 2, -3, 4))
    code("poly", out, values)
    assert struct.unpack("<4f", session.read(out, 16)) == (1.75, 5.5, -9.75, 19.25)


def test_passes_six_arguments_and_runs_as_often_as_asked(session: Session) -> None:
    code = Loaded(session, SUM)
    out = session.alloc(8)
    code("sum", out, 1, -2 % 2**64, 3, -4, 5)
    assert word(session, out) == 1 - 20 + 300 - 4000 + 50000
    session.write(out, bytes(8))
    result = code("bump", out, runs=7, warmup=4)
    assert word(session, out) == 11
    assert len(result.nanoseconds) == 7
    assert all(time > 0 for time in result.nanoseconds)
    assert result.instructions is None


@pytest.mark.parametrize("nbytes", [1, 7, 4095, 4096, 4097, 65537, (3 << 20) + 5])
def test_memory_is_zeroed_and_keeps_what_is_written(session: Session, nbytes: int) -> None:
    address = session.alloc(nbytes)
    assert session.read(address, nbytes) == bytes(nbytes)
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
    session.write(address, data)
    assert session.read(address, nbytes) == data.tobytes()
    assert session.read(address + nbytes - 1, 1) == data[-1:].tobytes()
    session.free(address)


def test_writes_arrays_of_any_shape_and_nothing_but_contiguous(session: Session) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    address = session.alloc(array.nbytes)
    session.write(address, array)
    assert session.read(address, array.nbytes) == array.tobytes()
    session.write(address, np.float16([1.5, -2]))
    assert session.read(address, 4) == np.float16([1.5, -2]).tobytes()
    session.write(address, b"")
    session.write(address, array[:0])
    with pytest.raises(DeviceError, match="contiguous"):
        session.write(address, array[:, ::2])


@pytest.mark.parametrize("align", [1, 4, 16, 64, 4096])
@pytest.mark.parametrize("nbytes", [1, 52, 4096, 70001])
def test_guards_touch_the_buffer_as_closely_as_the_alignment_allows(
    session: Session, align: int, nbytes: int
) -> None:
    page = session.info.page_bytes
    start = session.alloc(nbytes, guard="start", align=align)
    end = session.alloc(nbytes, guard="end", align=align)
    assert start % page == 0
    assert end % align == 0
    assert 0 <= -(end + nbytes) % page < align
    for address in (start, end):
        session.write(address, b"\7" * nbytes)
        assert session.read(address, nbytes) == b"\7" * nbytes
        session.free(address)


@pytest.mark.parametrize(
    ("nbytes", "align"), [(0, 64), (-5, 64), (1 << 60, 64), (8, 3), (8, 0), (8, 1 << 20)]
)
def test_refuses_impossible_buffers(session: Session, nbytes: int, align: int) -> None:
    with pytest.raises(DeviceError, match="cannot reserve"):
        session.alloc(nbytes, align=align)


def test_refuses_more_memory_than_there_is_and_goes_on(session: Session) -> None:
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1":
        pytest.skip("this system promises memory that it does not have")
    with pytest.raises(DeviceError, match="refused"):
        session.alloc(1 << 46)
    assert session.read(session.alloc(3), 3) == bytes(3)


def test_checks_every_range(session: Session) -> None:
    code = Loaded(session, STORE)
    address = session.alloc(100)
    for at, nbytes in ((address - 1, 1), (address, 101), (address + 99, 2), (address, -1), (0, 1)):
        with pytest.raises(DeviceError, match="do not lie inside one region"):
            session.read(at, nbytes)
    with pytest.raises(DeviceError, match="do not lie inside one region"):
        session.write(address + 50, bytes(51))
    with pytest.raises(DeviceError, match="never writable"):
        session.write(code.base, bytes(4))
    with pytest.raises(DeviceError, match="not in loaded code"):
        session.call(address, [])
    with pytest.raises(DeviceError, match="nothing was reserved"):
        session.free(address + 1)
    session.free(address)
    with pytest.raises(DeviceError, match="nothing was reserved"):
        session.free(address)
    assert session.read(code.base, len(code.blob.code)) == code.blob.placed(code.base)
    session.free(code.base)
    with pytest.raises(DeviceError, match="do not lie inside one region"):
        session.call(code.base, [])


def test_checks_every_call(session: Session) -> None:
    code = Loaded(session, SUM)
    out = session.alloc(8)
    with pytest.raises(DeviceError, match="at most 6 arguments"):
        code("bump", *[out] * 7)
    with pytest.raises(DeviceError, match="64 bits"):
        code("bump", 2**64)
    for options in ({"runs": 0}, {"runs": 65537}, {"warmup": -1}, {"timeout_s": 0}):
        with pytest.raises(DeviceError, match="runs are 1 to 65536"):
            code("bump", out, **options)
    with pytest.raises(DeviceError, match="count"):
        code("bump", out, count=True)
    assert word(session, out) == 0


def test_refuses_code_for_another_architecture(session: Session) -> None:
    other = {"aarch64": "x86_64", "x86_64": "aarch64"}[session.info.arch]
    with pytest.raises(DeviceError, match=f"runs {session.info.arch} code, this is for {other}"):
        session.load(Blob(other, bytes(4)))


def test_a_closed_session_says_so(session: Session) -> None:
    address = session.alloc(8)
    session.close()
    session.close()
    for use in (
        lambda: session.alloc(8),
        lambda: session.read(address, 8),
        lambda: session.write(address, bytes(8)),
        lambda: session.free(address),
        lambda: session.call(address, []),
    ):
        with pytest.raises(DeviceLost, match="has ended; open the device again"):
            use()


def test_many_small_buffers(session: Session) -> None:
    addresses = [session.alloc(5) for _ in range(200)]
    assert len(set(addresses)) == 200
    for address in addresses[::2]:
        session.free(address)
    again = [session.alloc(9) for _ in range(100)]
    assert all(session.read(address, 9) == bytes(9) for address in again)


def test_the_host_shows_its_memory_without_a_copy() -> None:
    with open_or_skip("host") as host:
        code = Loaded(host, SUM)
        address = host.alloc(24)
        view = host.view(address, 24).view(np.int64)
        code("bump", address + 8)
        assert view.tolist() == [0, 1, 0]
        view[2] = 41
        code("bump", address + 16)
        assert view[2] == 42
        with pytest.raises(DeviceError, match="never writable"):
            host.view(code.base, 4)


def test_the_agent_and_llvm_agree_on_this_host() -> None:
    with open_or_skip("host") as here, open_or_skip("host-isolated") as there:
        assert here.info.features == there.info.features
        assert here.info.arch == there.info.arch
        assert here.info.cores == there.info.cores
        assert here.info.page_bytes == there.info.page_bytes


def test_constants_many_pages_away(session: Session) -> None:
    """Enough code before and between the constants that every distance crosses pages."""
    filler = "\n".join(
        f"define hidden void @f{i}(ptr %p) nounwind {{"
        f" store volatile <4 x float> <float {i}.0, float 0.5, float 0.25, float {i}.5>, ptr %p"
        " ret void }"
        for i in range(700)
    )
    code = Loaded(session, POLYNOMIAL, filler, filler.replace("@f", "@g"), STORE)
    assert len(code.blob.code) > 6 * 4096
    out = session.alloc(16)
    for i in (0, 1, 350, 699):
        for letter in "fg":
            code(f"{letter}{i}", out)
            assert struct.unpack("<4f", session.read(out, 16)) == (i, 0.5, 0.25, i + 0.5)
