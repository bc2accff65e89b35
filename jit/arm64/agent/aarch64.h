/* What the agent needs to know of aarch64 Linux. */
enum { ELF_MACHINE = 183, CPU_WORDS = 8 };
enum {
  SYS_openat = 56, SYS_close = 57, SYS_read = 63, SYS_write = 64, SYS_exit = 93,
  SYS_exit_group = 94, SYS_futex = 98, SYS_setitimer = 103, SYS_clock_gettime = 113,
  SYS_sched_getaffinity = 123, SYS_tgkill = 131, SYS_sigaltstack = 132, SYS_rt_sigaction = 134,
  SYS_getpid = 172, SYS_gettid = 178, SYS_munmap = 215, SYS_mmap = 222, SYS_mprotect = 226,
  SYS_madvise = 233,
};
enum { CONTEXT_PC = 176 + 8 + 31 * 8 + 8 }; /* ucontext: past the fault address, x0 to x30, sp */

#define CLOCK_SYMBOL "__kernel_clock_gettime"

static long syscall6(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  register long x8 __asm__("x8") = number;
  register u64 x0 __asm__("x0") = a;
  register u64 x1 __asm__("x1") = b;
  register u64 x2 __asm__("x2") = c;
  register u64 x3 __asm__("x3") = d;
  register u64 x4 __asm__("x4") = e;
  register u64 x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return (long)x0;
}

/* Clean the data cache to where instructions are fetched from, then drop stale instructions. */
static void flush_instruction_cache(u64 base, u64 bytes) {
  u64 types;
  __asm__("mrs %0, ctr_el0" : "=r"(types));
  u64 data_line = (u64)4 << (types >> 16 & 15), code_line = (u64)4 << (types & 15);
  for (u64 at = base; at < base + bytes; at += data_line)
    __asm__ volatile("dc cvau, %0" ::"r"(at) : "memory");
  __asm__ volatile("dsb ish" ::: "memory");
  for (u64 at = base; at < base + bytes; at += code_line)
    __asm__ volatile("ic ivau, %0" ::"r"(at) : "memory");
  __asm__ volatile("dsb ish\n\tisb" ::: "memory");
}

/* words: AT_HWCAP, AT_HWCAP2, MIDR_EL1 (which core; 0 where the kernel does not tell). */
static void cpu_words(u64 *words, u64 hwcap, u64 hwcap2) {
  words[0] = hwcap;
  words[1] = hwcap2;
  if (hwcap >> 11 & 1) __asm__("mrs %0, midr_el1" : "=r"(words[2]));
}

/* enter(function, args, stack): calls function(args[0..5]) on the stack given and returns 0; or
 * returns 1 when escape() was called meanwhile, with everything the caller relies on restored. */
int enter(u64 function, const u64 *args, u8 *stack);
_Noreturn void escape(void);
void do_nothing(void);
void restore_signal(void);
/* start_thread(stack, tid, entry, argument): a thread of this process that calls entry(argument)
 * and never returns; its id is in *tid until the kernel has done with it.  The id, or -errno. */
struct follower;
long start_thread(u8 *stack, volatile u32 *tid, void (*entry)(struct follower *),
                  struct follower *argument);
u64 agent_saved_stack;

__asm__(
    ".text\n"
    ".globl _start\n"
    "_start:\n"
    "  mov x29, #0\n"
    "  mov x30, #0\n"
    "  mov x0, sp\n"
    "  bl agent_main\n"
    ".globl enter\n"
    "enter:\n"
    "  stp x29, x30, [sp, #-176]!\n"
    "  stp x19, x20, [sp, #16]\n"
    "  stp x21, x22, [sp, #32]\n"
    "  stp x23, x24, [sp, #48]\n"
    "  stp x25, x26, [sp, #64]\n"
    "  stp x27, x28, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n"
    "  stp d10, d11, [sp, #112]\n"
    "  stp d12, d13, [sp, #128]\n"
    "  stp d14, d15, [sp, #144]\n"
    "  mrs x9, fpcr\n"
    "  str x9, [sp, #160]\n"
    "  adrp x9, agent_saved_stack\n"
    "  mov x10, sp\n"
    "  str x10, [x9, :lo12:agent_saved_stack]\n"
    "  mov sp, x2\n"
    "  mov x9, x0\n"
    "  mov x10, x1\n"
    "  ldp x0, x1, [x10]\n"
    "  ldp x2, x3, [x10, #16]\n"
    "  ldp x4, x5, [x10, #32]\n"
    "  mov x29, #0\n"
    "  blr x9\n"
    "  mov w0, #0\n"
    "  b 1f\n"
    ".globl escape\n"
    "escape:\n"
    "  mov w0, #1\n"
    "1:\n"
    "  adrp x9, agent_saved_stack\n"
    "  ldr x9, [x9, :lo12:agent_saved_stack]\n"
    "  mov sp, x9\n"
    "  ldr x9, [sp, #160]\n"
    "  msr fpcr, x9\n"
    "  ldp d14, d15, [sp, #144]\n"
    "  ldp d12, d13, [sp, #128]\n"
    "  ldp d10, d11, [sp, #112]\n"
    "  ldp d8, d9, [sp, #96]\n"
    "  ldp x27, x28, [sp, #80]\n"
    "  ldp x25, x26, [sp, #64]\n"
    "  ldp x23, x24, [sp, #48]\n"
    "  ldp x21, x22, [sp, #32]\n"
    "  ldp x19, x20, [sp, #16]\n"
    "  ldp x29, x30, [sp], #176\n"
    "  ret\n"
    ".globl start_thread\n"
    "start_thread:\n"
    "  stp x2, x3, [x0, #-16]!\n"
    "  mov x2, x1\n"
    "  mov x4, x1\n"
    "  mov x1, x0\n"
    "  mov x3, #0\n"
    "  mov w0, #0x0f00\n" /* all shared; the id is set here and cleared at the end */
    "  movk w0, #0x35, lsl #16\n"
    "  mov x8, #220\n"
    "  svc 0\n"
    "  cbz x0, 2f\n"
    "  ret\n"
    "2:\n"
    "  ldp x9, x0, [sp], #16\n"
    "  mov x29, #0\n"
    "  mov x30, #0\n"
    "  blr x9\n"
    "  brk #0\n"
    ".globl do_nothing\n"
    "do_nothing:\n"
    "  ret\n"
    ".globl restore_signal\n"
    "restore_signal:\n"
    "  mov x8, #139\n"
    "  svc 0\n");
