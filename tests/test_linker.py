"""The linker, on what LLVM really emits for both architectures."""

import contextlib
import random

import pytest
from emitted import POLYNOMIAL, STORE, SWITCH, TABLE, TRIPLES, emit

from jit.linker import Blob, LinkError, link


@pytest.mark.parametrize("arch", TRIPLES)
@pytest.mark.parametrize("opt", [0, 2])
def test_links_constants_pointers_and_jump_tables(arch: str, opt: int) -> None:
    objects = [emit(ir, arch, opt=opt) for ir in (POLYNOMIAL, TABLE, SWITCH, STORE)]
    blob = link(objects)
    assert blob.arch == arch
    assert set(blob.symbols) == {"poly", "pick", "choose", "store", "one", "two", "three"}
    assert len(blob.absolutes) == 3
    base = 0x7F0000AB000
    code = blob.placed(base)
    for offset, value in blob.absolutes:
        assert int.from_bytes(code[offset : offset + 8], "little") == base + value
        assert 0 <= value < len(code)


@pytest.mark.parametrize("arch", TRIPLES)
def test_an_order_of_objects_changes_places_only(arch: str) -> None:
    objects = [emit(ir, arch) for ir in (SWITCH, STORE, POLYNOMIAL)]
    assert set(link(objects).symbols) == set(link(objects[::-1]).symbols)
    assert link(objects) == link(objects)


@pytest.mark.parametrize("arch", TRIPLES)
@pytest.mark.parametrize(
    ("ir", "message"),
    [
        (SWITCH, "'store' is undefined"),
        ("@n = global i32 3", r"'\.data' \(n\) is writable"),
        ("@z = global [9 x i32] zeroinitializer", r"'\.bss' \(z\) is writable"),
        ("@t = thread_local global i32 3", r"\(t\) is writable, thread-local"),
        ("@w = common global i32 0", "w"),
    ],
)
def test_refuses_what_needs_a_loader(arch: str, ir: str, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        link([emit(ir, arch)])


@pytest.mark.parametrize("arch", TRIPLES)
def test_refuses_the_offset_table_of_a_symbol_that_is_not_hidden(arch: str) -> None:
    ir = """@far = external global i32
    define hidden i32 @f() nounwind { %v = load i32, ptr @far ret i32 %v }"""
    with pytest.raises(LinkError, match="'far'"):
        link([emit(ir, arch)])
    defined = "@far = constant i32 5"
    with pytest.raises(LinkError, match="'far' is refused: it goes through a global offset table"):
        link([emit(ir, arch), emit(defined, arch)])


@pytest.mark.parametrize(("arch", "reason"), [("aarch64", "an absolute addr"), ("x86_64", "ltext")])
def test_refuses_the_large_code_model_with_the_reason(arch: str, reason: str) -> None:
    ir = TABLE.replace("internal constant", "hidden constant")
    with pytest.raises(LinkError, match=reason):
        link([emit(ir, arch, model="large", reloc="static")])


@pytest.mark.parametrize("arch", TRIPLES)
def test_refuses_duplicates_and_lets_strong_win_over_weak(arch: str) -> None:
    strong = emit(STORE, arch)
    weak = emit(STORE.replace("hidden", "weak hidden"), arch)
    with pytest.raises(LinkError, match="'store' is defined twice"):
        link([strong, strong])
    assert link([weak, strong]).symbols["store"] != link([weak, weak]).symbols["store"]


def test_refuses_mixed_architectures_and_nothing() -> None:
    with pytest.raises(LinkError, match="object 1 is x86_64"):
        link([emit(STORE, "aarch64"), emit(STORE, "x86_64")])
    with pytest.raises(LinkError, match="no objects"):
        link([])


@pytest.mark.parametrize("arch", TRIPLES)
def test_damaged_objects_give_a_link_error_or_a_blob(arch: str) -> None:
    whole = emit(TABLE, arch)
    rng = random.Random(7)
    for size in (0, 3, 63, 64, len(whole) // 2, len(whole) - 1):
        with pytest.raises(LinkError):
            link([whole[:size]])
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with contextlib.suppress(LinkError):
            assert isinstance(link([bytes(damaged)]), Blob)


def test_a_blob_checks_itself() -> None:
    with pytest.raises(LinkError, match="unknown architecture 'mips'"):
        Blob("mips", bytes(4))
    with pytest.raises(LinkError, match="no code"):
        Blob("aarch64", b"")
    with pytest.raises(LinkError, match="'f' lies at 9"):
        Blob("aarch64", bytes(8), {"f": 9})
    with pytest.raises(LinkError, match="pointer lies at 1"):
        Blob("aarch64", bytes(8), {}, ((1, 0),))
    with pytest.raises(LinkError, match="not a multiple of 4096"):
        Blob("aarch64", bytes(8)).placed(64)
