"""The walker: LLVM text of what runs a table of launches, alone or as one of a team of threads.

`run(table, count)` walks rows of (kernel, buffers, params) and calls one after another, so a
whole network is one call.  In a team every member walks a table of its own; where launches wait
for each other, a row calls `barrier` on the team, which is a kernel like any other: its buffers
are the team's memory.

    lead(team)            one run: release the members, walk table 0, wait until all have arrived
    follow(team, member)  what another thread does: walk its table whenever it is released
    dismiss(team)         let all that follow return

The memory of a team, 64 bytes to a line so that members do not disturb each other:

    line 0      generation (i32): counted up whenever all have arrived at a barrier
    line 1      arrived (i64): members at the barrier that is being waited for
    line 2      sleepers (i64): members that wait in the kernel rather than spin
    line 3      members (i64), dismissed (i64), the system's `long syscall(long, ...)`, its number
                of futex (i64)
    line 4 + t  table and count of member t

Whoever waits spins for some tens of microseconds, then sleeps in the kernel until the generation
counts up.  A sleeper announces itself before the kernel compares the generation, and who counts
up looks for sleepers afterwards, both in one order for all (seq_cst): no wake is lost.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from jit.llvm import emit_object
from jit.target import LlvmTarget

LINE = 64
"""Bytes between what different members write."""
SPINS = 1000
"""Times that a waiting member looks before it sleeps; a look takes some 10 to 60 ns."""

RUN = """
define hidden void @run(ptr %table, i64 %count) nounwind "no-builtins" {
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = mul nuw nsw i64 %i, 3
  %entry.kernel = getelementptr ptr, ptr %table, i64 %at
  %entry.buffers = getelementptr ptr, ptr %entry.kernel, i64 1
  %entry.params = getelementptr ptr, ptr %entry.kernel, i64 2
  %kernel = load ptr, ptr %entry.kernel
  %buffers = load ptr, ptr %entry.buffers
  %params = load ptr, ptr %entry.params
  call void %kernel(ptr %buffers, ptr %params)
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""

_TEAM = """
declare hidden void @run(ptr, i64)
PAUSE_DECLARATION

define hidden void @barrier(ptr %team, ptr %unused) nounwind "no-builtins" {
entry:
  %arrived = getelementptr i8, ptr %team, i64 64
  %sleepers = getelementptr i8, ptr %team, i64 128
  %members.at = getelementptr i8, ptr %team, i64 192
  %syscall.at = getelementptr i8, ptr %team, i64 208
  %futex.at = getelementptr i8, ptr %team, i64 216
  %members = load i64, ptr %members.at
  %syscall = load ptr, ptr %syscall.at
  %futex = load i64, ptr %futex.at
  %generation = load atomic i32, ptr %team monotonic, align 4
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %here = add i64 %before, 1
  %last = icmp eq i64 %here, %members
  br i1 %last, label %release, label %spin

release:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %following = add i32 %generation, 1
  store atomic i32 %following, ptr %team seq_cst, align 4
  %asleep = load atomic i64, ptr %sleepers seq_cst, align 8
  %any = icmp ne i64 %asleep, 0
  br i1 %any, label %wake, label %done
wake:
  %woken = call i64 (i64, ...) %syscall(i64 %futex, ptr %team, i32 FUTEX_WAKE, i32 2147483647)
  br label %done

spin:
  %looks = phi i64 [ 0, %entry ], [ %more, %rest ]
  %now = load atomic i32, ptr %team acquire, align 4
  %waiting = icmp eq i32 %now, %generation
  br i1 %waiting, label %rest, label %done
rest:
  call void PAUSE
  %more = add i64 %looks, 1
  %enough = icmp eq i64 %more, SPINS
  br i1 %enough, label %lie.down, label %spin

lie.down:
  %others = atomicrmw add ptr %sleepers, i64 1 seq_cst
  br label %look
look:
  %then = load atomic i32, ptr %team seq_cst, align 4
  %still = icmp eq i32 %then, %generation
  br i1 %still, label %sleep, label %get.up
sleep:
  %slept = call i64 (i64, ...) %syscall(i64 %futex, ptr %team, i32 FUTEX_WAIT, i32 %generation,
                                        ptr null)
  br label %look
get.up:
  %rest.asleep = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  br label %done

done:
  ret void
}

define internal void @walk(ptr %team, i64 %member) nounwind "no-builtins" {
  %line = mul nuw nsw i64 %member, 64
  %lines = getelementptr i8, ptr %team, i64 256
  %table.at = getelementptr i8, ptr %lines, i64 %line
  %count.at = getelementptr i8, ptr %table.at, i64 8
  %table = load ptr, ptr %table.at
  %count = load i64, ptr %count.at
  call void @run(ptr %table, i64 %count)
  ret void
}

define hidden void @lead(ptr %team) nounwind "no-builtins" {
  call void @barrier(ptr %team, ptr null)
  call void @walk(ptr %team, i64 0)
  call void @barrier(ptr %team, ptr null)
  ret void
}

define hidden void @follow(ptr %team, i64 %member) nounwind "no-builtins" {
entry:
  %dismissed.at = getelementptr i8, ptr %team, i64 200
  br label %wait
wait:
  call void @barrier(ptr %team, ptr null)
  %dismissed = load atomic i64, ptr %dismissed.at monotonic, align 8
  %stay = icmp eq i64 %dismissed, 0
  br i1 %stay, label %work, label %leave
work:
  call void @walk(ptr %team, i64 %member)
  call void @barrier(ptr %team, ptr null)
  br label %wait
leave:
  ret void
}

define hidden void @dismiss(ptr %team) nounwind "no-builtins" {
  %dismissed.at = getelementptr i8, ptr %team, i64 200
  store atomic i64 1, ptr %dismissed.at monotonic, align 8
  call void @barrier(ptr %team, ptr null)
  ret void
}
"""
_FUTEX_WAIT, _FUTEX_WAKE = 128, 129  # of this process alone


@lru_cache(maxsize=8)
def run_object(target: LlvmTarget) -> bytes:
    """The object file of `run`."""
    return emit_object(f'target triple = "{target.triple}"\n{RUN}', target)


@lru_cache(maxsize=8)
def team_object(target: LlvmTarget) -> bytes:
    """The object file of what a team runs, beside the kernels' with `run`."""
    pause, declaration = target.pause
    text = _TEAM.replace("PAUSE_DECLARATION", declaration).replace("PAUSE", pause)
    numbers = {"SPINS": SPINS, "FUTEX_WAIT": _FUTEX_WAIT, "FUTEX_WAKE": _FUTEX_WAKE}
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    return emit_object(f'target triple = "{target.triple}"\n{text}', target)


def team_bytes(members: int) -> int:
    """The size of a team's memory."""
    return LINE * (4 + members)


def team_image(members: int, syscall: int, futex: int) -> bytes:
    """A team's memory as it begins: nobody has arrived.

    Args:
        members: threads that walk, the leader among them.
        syscall: address of the system's `long syscall(long, ...)`.
        futex: the system's number of futex.
    """
    head = struct.pack("<4Q", members, 0, syscall, futex)
    return bytes(3 * LINE) + head.ljust(LINE, b"\0") + bytes(LINE * members)


def work_image(tables: Sequence[tuple[int, int]]) -> bytes:
    """The lines from 4 on: address and rows of every member's table."""
    return b"".join(struct.pack("<2Q", *table).ljust(LINE, b"\0") for table in tables)
