"""What the tests of linker, sessions and devices share: LLVM text, its objects, devices."""

import llvmlite.binding as llvm
import pytest

from jit.devices import open_device
from jit.linker import Blob, link
from jit.session import DeviceError, Session

TRIPLES = {"aarch64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
ISOLATED = ("host-isolated", "qemu:cortex-a76", "qemu")
EVERYWHERE = ("host", *ISOLATED)


def emit(
    ir: str,
    arch: str,
    *,
    model: str = "small",
    reloc: str = "pic",
    opt: int = 2,
    features: str = "",
) -> bytes:
    """The object LLVM makes of a module's text."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(TRIPLES[arch])
    machine = target.create_target_machine(opt=opt, reloc=reloc, codemodel=model, features=features)
    module = llvm.parse_assembly(f'target triple = "{TRIPLES[arch]}"\n{ir}')
    module.verify()
    return machine.emit_object(module)


def open_or_skip(name: str, *, counting: bool = False) -> Session:
    """The device, or a skip that says why it cannot be had."""
    try:
        return open_device(name, counting=counting)
    except DeviceError as error:
        if "not installed" in str(error):
            pytest.skip(str(error))
        raise


class Loaded:
    """Functions of some LLVM text, placed in a session and called by name."""

    def __init__(self, session: Session, *irs: str, opt: int = 2, features: str = "") -> None:
        objects = [emit(ir, session.info.arch, opt=opt, features=features) for ir in irs]
        self.session = session
        self.blob: Blob = link(objects)
        self.base = session.load(self.blob)

    def __call__(self, name: str, *args: int, **options):
        return self.session.call(self.base + self.blob.symbols[name], args, **options)


POLYNOMIAL = """
define hidden void @poly(ptr %out, ptr %in) nounwind {
  %x = load <4 x float>, ptr %in, align 4
  %a = fmul <4 x float> %x, <float 1.5, float 2.5, float 3.5, float 4.5>
  %b = fadd <4 x float> %a, <float 0.25, float 0.5, float 0.75, float 1.25>
  store <4 x float> %b, ptr %out, align 4
  ret void
}
"""

TABLE = """
@table = internal constant [3 x ptr] [ptr @one, ptr @two, ptr @three], align 8
define internal i64 @one() nounwind noinline { ret i64 11 }
define internal i64 @two() nounwind noinline { ret i64 22 }
define internal i64 @three() nounwind noinline { ret i64 33 }
define hidden void @pick(ptr %out, i64 %i) nounwind {
  %p = getelementptr [3 x ptr], ptr @table, i64 0, i64 %i
  %f = load ptr, ptr %p
  %v = call i64 %f()
  store i64 %v, ptr %out
  ret void
}
"""

SWITCH = """
define hidden void @choose(ptr %out, i64 %i) nounwind {
  switch i64 %i, label %d [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %e
                            i64 4, label %f ]
a: call void @store(ptr %out, i64 7) ret void
b: call void @store(ptr %out, i64 70) ret void
c: %t = load i64, ptr %out
   call void @store(ptr %out, i64 %t) ret void
e: call void @store(ptr %out, i64 1234567) ret void
f: store i64 5, ptr %out ret void
d: store i64 -1, ptr %out ret void
}
declare hidden void @store(ptr, i64)
"""

STORE = "define hidden void @store(ptr %p, i64 %v) nounwind { store i64 %v, ptr %p ret void }"

SUM = """
define hidden void @sum(ptr %out, i64 %a, i64 %b, i64 %c, i64 %d, i64 %e) nounwind {
  %1 = mul i64 %b, 10
  %2 = mul i64 %c, 100
  %3 = mul i64 %d, 1000
  %4 = mul i64 %e, 10000
  %5 = add i64 %a, %1
  %6 = add i64 %5, %2
  %7 = add i64 %6, %3
  %8 = add i64 %7, %4
  store i64 %8, ptr %out
  ret void
}
define hidden void @bump(ptr %p) nounwind {
  %v = load i64, ptr %p
  %w = add i64 %v, 1
  store i64 %w, ptr %p
  ret void
}
"""

BAD = """
declare void @llvm.trap()
define hidden void @poke(ptr %p) nounwind { store volatile i8 1, ptr %p ret void }
define hidden void @peek(ptr %p) nounwind { %v = load volatile i8, ptr %p ret void }
define hidden void @peek16(ptr %p) nounwind {
  %v = load volatile <4 x i32>, ptr %p, align 1
  ret void
}
define hidden void @trap() nounwind { call void @llvm.trap() unreachable }
define hidden void @jump(ptr %p) nounwind { tail call void %p() ret void }
define hidden void @spin() nounwind { br label %l
l: br label %l }
define hidden void @deep(i64 %n) nounwind {
  %a = alloca [1000 x i8]
  call void @touch(ptr %a)
  %m = add i64 %n, 1
  call void @deep(i64 %m)
  call void @touch(ptr %a)
  ret void
}
define internal void @touch(ptr %p) nounwind noinline { store volatile i8 1, ptr %p ret void }
"""
