/* The agent: runs emitted code for a client that talks to it over standard input and output.
 *
 * Freestanding: no C library, no files written, no ports; threads only while a team is called.  A
 * request is a header, then
 * `length` bytes of payload; every request but QUIT gets one reply, built the same way.  All
 * numbers are little-endian.  A status of 0 is success, a negative one is -errno, FAULTED says that
 * called code ended in a signal and that a `struct fault` follows.
 *
 *   INFO                        -> struct info
 *   ALLOC  a = bytes            -> value = address, zeroed, writable, guard pages on both sides;
 *                                  payload: its size, whole pages
 *   WRITE  a = address, payload -> nothing
 *   READ   a = address, b = n   -> n bytes
 *   EXEC   a = address of ALLOC -> nothing; from now on executable and never writable again
 *   CALL   struct call          -> value = instructions of the last run, or 0; payload: u64
 *                                  nanoseconds of every timed run.  With `members` over 1 as many
 *                                  threads less one call follow(args[0], member) meanwhile, and
 *                                  dismiss(args[0]) at the end lets them return
 *   FREE   a = address of ALLOC -> nothing
 *   QUIT
 */
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#if defined(__aarch64__)
#include "aarch64.h"
#elif defined(__x86_64__)
#include "x86_64.h"
#else
#error "the agent runs on aarch64 and x86-64"
#endif

enum { VERSION = 2 };
enum { INFO = 1, ALLOC, WRITE, READ, EXEC, CALL, FREE, QUIT };
enum { FAULTED = 1 };
enum { EINTR = 4, ENOMEM = 12, EFAULT = 14, EINVAL = 22, ENFILE = 23, ENOSYS = 38 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGUSR1 = 10, SIGSEGV = 11 };
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
enum { MAP_FLAGS = 0x22 }; /* private, anonymous */
enum { MAX_REGIONS = 1 << 16, MAX_RUNS = 1 << 16, ARGS = 6, MAX_MEMBERS = 256 };
/* Of `state`: who faults first notes it, and the agent's own thread then leaves its call. */
enum { IDLE, CALLING, NOTING, NOTED, LEAVING };

#define GUARD_BYTES ((u64)1 << 16)
#define HUGE_BYTES ((u64)1 << 21)
#define MAX_BYTES ((u64)1 << 46)
#define STACK_BYTES ((u64)8 << 20)
#define STACK_GUARD_BYTES ((u64)1 << 20)
#define SIGNAL_STACK_BYTES ((u64)1 << 16)

struct request { u32 op, flags; u64 a, b, length; };
struct reply { s64 status; u64 value, length; };
struct info { u32 version, machine, cores, page; u64 words[CPU_WORDS]; s64 khz, millidegrees;
              u64 system_call; };
struct call { u64 function; u32 runs, warmup, count, limit_s; u64 args[ARGS];
              u64 members, follow, dismiss; };
struct fault { u32 signal; int32_t code; u64 address, pc; };
struct follower { u64 function, team, member; u8 *stack_top, *signal_stack; volatile u32 tid; };
struct region { u64 map, map_bytes, base, bytes, sealed; };

static struct region regions[MAX_REGIONS];
static u32 region_count;
static u64 nanoseconds[MAX_RUNS];
static u8 signal_stack[SIGNAL_STACK_BYTES] __attribute__((aligned(64)));
static struct follower followers[MAX_MEMBERS];
static u8 *call_stack_top;
static u64 page_bytes;
static const u64 *auxiliary;
static u32 state, own_tid;
static struct fault last_fault;

/* ---- the system ---- */

static long call3(long number, u64 a, u64 b, u64 c) { return syscall6(number, a, b, c, 0, 0, 0); }

/* What emitted code sleeps and wakes others with. */
static long system_call(long number, u64 a, u64 b, u64 c, u64 d) {
  return syscall6(number, a, b, c, d, 0, 0);
}

static _Noreturn void leave(int code) {
  for (;;) call3(SYS_exit_group, (u64)code, 0, 0);
}

#include "clock.h"

static int failed(long result) { return result < 0 && result > -4096; }

/* Writable pages; asked for as such, so that the system refuses at once what it does not have. */
static long map_pages(u64 bytes) {
  return syscall6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_FLAGS, (u64)-1, 0);
}

/* Make all of a mapping inaccessible but the `bytes` at `base`. */
static long guard(u64 map, u64 whole, u64 base, u64 bytes) {
  long status = call3(SYS_mprotect, map, base - map, PROT_NONE);
  if (!status) status = call3(SYS_mprotect, base + bytes, map + whole - base - bytes, PROT_NONE);
  return status;
}

/* After this many seconds the kernel ends the agent: nothing spins on when the client is gone. */
static void set_alarm(u32 seconds) {
  u64 timer[4] = {0, 0, seconds, 0};
  call3(SYS_setitimer, 0 /* ITIMER_REAL */, (u64)timer, 0);
}

/* ---- messages ---- */

static void receive(void *into, u64 bytes) {
  u8 *at = into;
  while (bytes) {
    long got = call3(SYS_read, 0, (u64)at, bytes);
    if (got == -EINTR) continue;
    if (got <= 0) leave(0); /* the client is gone */
    at += got;
    bytes -= (u64)got;
  }
}

static void discard(u64 bytes) {
  u8 scratch[512];
  while (bytes) {
    u64 part = bytes < sizeof scratch ? bytes : sizeof scratch;
    receive(scratch, part);
    bytes -= part;
  }
}

static void send(const void *from, u64 bytes) {
  const u8 *at = from;
  while (bytes) {
    long put = call3(SYS_write, 1, (u64)at, bytes);
    if (put == -EINTR) continue;
    if (put <= 0) leave(1);
    at += put;
    bytes -= (u64)put;
  }
}

static void answer(s64 status, u64 value, const void *payload, u64 length) {
  struct reply reply = {status, value, length};
  send(&reply, sizeof reply);
  send(payload, length);
}

/* ---- memory ---- */

static struct region *region_at(u64 base) {
  for (u32 i = 0; i < region_count; i++)
    if (regions[i].base == base && regions[i].bytes) return &regions[i];
  return NULL;
}

static struct region *region_holding(u64 address, u64 bytes) {
  for (u32 i = 0; i < region_count; i++) {
    const struct region *r = &regions[i];
    if (address >= r->base && bytes <= r->bytes && address - r->base <= r->bytes - bytes)
      return &regions[i];
  }
  return NULL;
}

static struct region *free_slot(void) {
  for (u32 i = 0; i < region_count; i++)
    if (!regions[i].bytes) return &regions[i];
  return region_count < MAX_REGIONS ? &regions[region_count++] : NULL;
}

static void do_alloc(u64 wanted) {
  if (!wanted || wanted > MAX_BYTES) return answer(-EINVAL, 0, NULL, 0);
  u64 bytes = (wanted + page_bytes - 1) / page_bytes * page_bytes;
  u64 slack = bytes >= HUGE_BYTES ? HUGE_BYTES : 0; /* huge pages need an aligned start */
  u64 whole = bytes + slack + 2 * GUARD_BYTES;
  struct region *slot = free_slot();
  if (!slot) return answer(-ENFILE, 0, NULL, 0);
  long map = map_pages(whole);
  if (failed(map)) return answer(map, 0, NULL, 0);
  u64 base = (u64)map + GUARD_BYTES;
  if (slack) base = (base + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
  long status = guard((u64)map, whole, base, bytes);
  if (status) {
    call3(SYS_munmap, (u64)map, whole, 0);
    return answer(status, 0, NULL, 0);
  }
  if (slack) call3(SYS_madvise, base, bytes, 14 /* MADV_HUGEPAGE */);
  *slot = (struct region){(u64)map, whole, base, bytes, 0};
  answer(0, base, &bytes, sizeof bytes);
}

static void do_write(u64 address, u64 length) {
  struct region *r = region_holding(address, length);
  if (!r || r->sealed) {
    discard(length);
    return answer(-EFAULT, 0, NULL, 0);
  }
  receive((void *)address, length);
  answer(0, 0, NULL, 0);
}

static void do_read(u64 address, u64 length) {
  if (!region_holding(address, length)) return answer(-EFAULT, 0, NULL, 0);
  answer(0, 0, (void *)address, length);
}

static void do_exec(u64 base) {
  struct region *r = region_at(base);
  if (!r) return answer(-EFAULT, 0, NULL, 0);
  r->sealed = 1;
  long status = call3(SYS_mprotect, r->base, r->bytes, PROT_READ | PROT_EXEC);
  if (!status) flush_instruction_cache(r->base, r->bytes);
  answer(status, 0, NULL, 0);
}

static void do_free(u64 base) {
  struct region *r = region_at(base);
  if (!r) return answer(-EFAULT, 0, NULL, 0);
  long status = call3(SYS_munmap, r->map, r->map_bytes, 0);
  if (!status) *r = (struct region){0, 0, 0, 0, 0};
  answer(status, 0, NULL, 0);
}

/* ---- calls ---- */

static u32 thread_id(void) { return (u32)call3(SYS_gettid, 0, 0, 0); }

static _Noreturn void leave_thread(void) {
  for (;;) call3(SYS_exit, 0, 0, 0);
}

static void interrupt(u32 tid) {
  call3(SYS_tgkill, (u64)call3(SYS_getpid, 0, 0, 0), tid, SIGUSR1);
}

static int first_to(u32 from, u32 to) {
  return __atomic_compare_exchange_n(&state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void note_fault(int signal, const u8 *siginfo, const u8 *context) {
  last_fault.signal = (u32)signal;
  last_fault.code = *(const int32_t *)(siginfo + 8);
  last_fault.address = *(const u64 *)(siginfo + 16);
  last_fault.pc = *(const u64 *)(context + CONTEXT_PC);
}

/* A signal ends the call it came in, never the agent; a signal of the agent's own ends it.  A
 * follower that faults ends and has the agent's own thread leave the call; SIGUSR1 asks for that,
 * and asks followers to end. */
static void on_signal(int signal, const u8 *siginfo, const u8 *context) {
  int own = thread_id() == own_tid;
  u32 now_in = __atomic_load_n(&state, __ATOMIC_SEQ_CST);
  if (own && signal != SIGUSR1 && (now_in == IDLE || now_in == LEAVING)) leave(128 + signal);
  if (signal != SIGUSR1 && first_to(CALLING, NOTING)) {
    note_fault(signal, siginfo, context);
    __atomic_store_n(&state, NOTED, __ATOMIC_SEQ_CST);
    if (!own) interrupt(own_tid);
  }
  if (!own) leave_thread();
  while (__atomic_load_n(&state, __ATOMIC_SEQ_CST) == NOTING) { /* a follower does */
  }
  if (first_to(NOTED, LEAVING)) escape();
}

static void use_signal_stack(u8 *stack) {
  struct { u64 stack; u64 flags; u64 bytes; } alternate = {(u64)stack, 0, SIGNAL_STACK_BYTES};
  call3(SYS_sigaltstack, (u64)&alternate, 0, 0);
}

static void catch_signals(void) {
  static const int caught[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV};
  struct { u64 handler, flags, restorer, mask; } action = {
      (u64)on_signal, 0x4C000004 /* SIGINFO, ONSTACK, NODEFER, RESTORER */, (u64)restore_signal, 0};
  own_tid = thread_id();
  use_signal_stack(signal_stack);
  for (u32 i = 0; i < sizeof caught / sizeof *caught; i++)
    syscall6(SYS_rt_sigaction, (u64)caught[i], (u64)&action, 0, 8, 0, 0);
}

/* Instructions executed so far, as the emulator's plugin tells it; 0 where nobody answers. */
static u64 instructions(void) {
  volatile u64 box[2] = {0x600d7e57600d7e57, 0};
  call3(0x7e57, 0x600d, (u64)box, 0);
  return box[1];
}

/* One call on a stack of its own; 0, or FAULTED.  `counted` gets what it cost, bracket included. */
static __attribute__((noinline)) int run_once(u64 function, const u64 *args, u64 *counted) {
  u64 before = counted ? instructions() : 0;
  __atomic_store_n(&state, CALLING, __ATOMIC_SEQ_CST);
  int outcome = enter(function, args, call_stack_top);
  __atomic_store_n(&state, IDLE, __ATOMIC_SEQ_CST);
  if (counted) *counted = instructions() - before;
  return outcome;
}

/* ---- teams ---- */

static _Noreturn void follow(struct follower *self) {
  use_signal_stack(self->signal_stack);
  ((void (*)(u64, u64))self->function)(self->team, self->member);
  leave_thread();
}

/* Memory for a follower's stacks, kept for the next team; 0, or -errno. */
static long provide_stacks(struct follower *f) {
  if (f->stack_top) return 0;
  u64 whole = STACK_BYTES + 2 * STACK_GUARD_BYTES;
  long map = map_pages(whole), signals = map_pages(SIGNAL_STACK_BYTES);
  if (failed(map)) return map;
  if (failed(signals)) return signals;
  u64 low = (u64)map + STACK_GUARD_BYTES;
  long status = guard((u64)map, whole, low, STACK_BYTES);
  if (status) return status;
  f->signal_stack = (u8 *)signals;
  f->stack_top = (u8 *)(low + STACK_BYTES);
  return 0;
}

static void await_followers(u64 members) {
  for (u64 i = 1; i < members; i++)
    for (u32 tid; (tid = followers[i].tid) != 0;) /* the kernel clears it when the thread is gone */
      syscall6(SYS_futex, (u64)&followers[i].tid, 0 /* FUTEX_WAIT */, tid, 0, 0, 0);
}

static void end_followers(u64 members) {
  for (u64 i = 1; i < members; i++)
    if (followers[i].tid) interrupt(followers[i].tid);
  await_followers(members);
}

/* 0, or -errno with no thread left. */
static long start_followers(const struct call *call) {
  for (u64 i = 1; i < call->members; i++) {
    struct follower *f = &followers[i];
    long status = provide_stacks(f);
    f->function = call->follow;
    f->team = call->args[0];
    f->member = i;
    if (!status) status = start_thread(f->stack_top, &f->tid, follow, f);
    if (failed(status)) {
      end_followers(i);
      return status;
    }
  }
  return 0;
}

static int run_runs(const struct call *call, u64 *counted) {
  u64 bracket = 0;
  if (call->count && run_once((u64)do_nothing, call->args, &bracket)) return FAULTED;
  for (u32 i = 0; i < call->warmup; i++)
    if (run_once(call->function, call->args, NULL)) return FAULTED;
  for (u32 i = 0; i < call->runs; i++) {
    u64 begin = now();
    if (run_once(call->function, call->args, call->count ? counted : NULL)) return FAULTED;
    nanoseconds[i] = now() - begin;
  }
  if (call->count && *counted) *counted -= bracket - 1; /* do_nothing is one instruction */
  return 0;
}

static int run_all(const struct call *call, u64 *counted) {
  int outcome = run_runs(call, counted);
  if (call->members > 1) {
    if (!outcome) outcome = run_once(call->dismiss, call->args, NULL);
    if (outcome) end_followers(call->members);
    await_followers(call->members);
  }
  return outcome;
}

static int is_code(u64 address) {
  const struct region *r = region_holding(address, 1);
  return r && r->sealed;
}

static void do_call(u64 length) {
  struct call call;
  if (length != sizeof call) {
    discard(length);
    return answer(-EINVAL, 0, NULL, 0);
  }
  receive(&call, sizeof call);
  if (!is_code(call.function)) return answer(-EFAULT, 0, NULL, 0);
  if (call.members > 1 && !(is_code(call.follow) && is_code(call.dismiss)))
    return answer(-EFAULT, 0, NULL, 0);
  if (!call.runs || call.runs > MAX_RUNS || call.warmup > MAX_RUNS || !call.limit_s ||
      call.members > MAX_MEMBERS || (call.members > 1 && call.count))
    return answer(-EINVAL, 0, NULL, 0);
  long status = start_followers(&call);
  if (status) return answer(status, 0, NULL, 0);
  u64 counted = 0;
  set_alarm(call.limit_s);
  int outcome = run_all(&call, &counted);
  set_alarm(0);
  if (outcome) return answer(FAULTED, 0, &last_fault, sizeof last_fault);
  if (call.count && !counted) return answer(-ENOSYS, 0, NULL, 0);
  answer(0, counted, nanoseconds, call.runs * sizeof *nanoseconds);
}

/* ---- what this machine is ---- */

static u64 auxiliary_value(u64 key) {
  for (const u64 *at = auxiliary; at[0]; at += 2)
    if (at[0] == key) return at[1];
  return 0;
}

static u32 usable_cores(void) {
  u64 mask[128]; /* only the bytes the kernel filled are read */
  long bytes = call3(SYS_sched_getaffinity, 0, sizeof mask, (u64)mask);
  u32 cores = 0;
  for (long i = 0; i < bytes / 8; i++)
    for (u64 word = mask[i]; word; word &= word - 1) cores++;
  return cores ? cores : 1;
}

/* The decimal number in a file of the kernel's, or -1. */
static s64 number_in(const char *path) {
  char text[32];
  long file = syscall6(SYS_openat, (u64)-100 /* AT_FDCWD */, (u64)path, 0, 0, 0, 0);
  if (failed(file)) return -1;
  long got = call3(SYS_read, (u64)file, (u64)text, sizeof text);
  call3(SYS_close, (u64)file, 0, 0);
  s64 value = -1;
  for (long i = 0; i < got && text[i] >= '0' && text[i] <= '9'; i++)
    value = (value < 0 ? 0 : value * 10) + (text[i] - '0');
  return value;
}

static void do_info(void) {
  struct info info = {VERSION, ELF_MACHINE, usable_cores(), (u32)page_bytes, {0}, 0, 0,
                      (u64)system_call};
  cpu_words(info.words, auxiliary_value(16 /* AT_HWCAP */), auxiliary_value(26 /* AT_HWCAP2 */));
  info.khz = number_in("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq");
  info.millidegrees = number_in("/sys/class/thermal/thermal_zone0/temp");
  answer(0, 0, &info, sizeof info);
}

/* ---- start ---- */

static void prepare(const u64 *stack) {
  const u64 *at = stack + 1 + stack[0] + 1; /* past argc, argv and its null */
  while (*at++) {                           /* past the environment and its null */
  }
  auxiliary = at;
  u64 page = auxiliary_value(6 /* AT_PAGESZ */);
  page_bytes = page ? page : 4096;
  u64 whole = STACK_BYTES + 2 * STACK_GUARD_BYTES;
  long map = map_pages(whole);
  u64 low = (u64)map + STACK_GUARD_BYTES;
  if (failed(map) || guard((u64)map, whole, low, STACK_BYTES)) leave(2);
  call_stack_top = (u8 *)(low + STACK_BYTES);
  find_clock(auxiliary_value(33 /* AT_SYSINFO_EHDR */));
  catch_signals();
}

_Noreturn void agent_main(const u64 *stack) {
  prepare(stack);
  for (;;) {
    struct request r;
    receive(&r, sizeof r);
    if (r.op != WRITE && r.op != CALL && r.length) {
      discard(r.length);
      answer(-EINVAL, 0, NULL, 0);
      continue;
    }
    switch (r.op) {
      case INFO: do_info(); break;
      case ALLOC: do_alloc(r.a); break;
      case WRITE: do_write(r.a, r.length); break;
      case READ: do_read(r.a, r.b); break;
      case EXEC: do_exec(r.a); break;
      case CALL: do_call(r.length); break;
      case FREE: do_free(r.a); break;
      case QUIT: leave(0);
      default: answer(-ENOSYS, 0, NULL, 0);
    }
  }
}
