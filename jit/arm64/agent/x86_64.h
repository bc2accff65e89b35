/* What the agent needs to know of x86-64 Linux. */
enum { ELF_MACHINE = 62, CPU_WORDS = 8 };
enum {
  SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11,
  SYS_rt_sigaction = 13, SYS_madvise = 28, SYS_setitimer = 38, SYS_getpid = 39, SYS_exit = 60,
  SYS_sigaltstack = 131, SYS_gettid = 186, SYS_futex = 202, SYS_sched_getaffinity = 204,
  SYS_clock_gettime = 228, SYS_exit_group = 231, SYS_tgkill = 234, SYS_openat = 257,
};
enum { CONTEXT_PC = 40 + 16 * 8 }; /* ucontext: general registers begin at 40, RIP is the 17th */

#define CLOCK_SYMBOL "__vdso_clock_gettime"

static long syscall6(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  register u64 r10 __asm__("r10") = d;
  register u64 r8 __asm__("r8") = e;
  register u64 r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static void flush_instruction_cache(u64 base, u64 bytes) { /* the hardware keeps it in step */
  (void)base;
  (void)bytes;
}

static void cpuid(u32 leaf, u32 subleaf, u32 out[4]) {
  __asm__("cpuid"
          : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
          : "a"(leaf), "c"(subleaf));
}

/* words: leaf 1 ECX; leaf 7.0 EBX, ECX, EDX; leaf 7.1 EAX; leaf 0x80000001 ECX; XCR0. */
static void cpu_words(u64 *words, u64 hwcap, u64 hwcap2) {
  u32 r[4], highest, highest_extended;
  (void)hwcap;
  (void)hwcap2;
  cpuid(0, 0, r);
  highest = r[0];
  cpuid(1, 0, r);
  words[0] = r[2];
  if (highest >= 7) {
    cpuid(7, 0, r);
    words[1] = r[1];
    words[2] = r[2];
    words[3] = r[3];
    if (r[0] >= 1) {
      cpuid(7, 1, r);
      words[4] = r[0];
    }
  }
  cpuid(0x80000000, 0, r);
  highest_extended = r[0];
  if (highest_extended >= 0x80000001) {
    cpuid(0x80000001, 0, r);
    words[5] = r[2];
  }
  if (words[0] >> 27 & 1) { /* OSXSAVE: XGETBV exists */
    u32 low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    words[6] = low;
  }
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
    "  xor %ebp, %ebp\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call agent_main\n"
    ".globl enter\n"
    "enter:\n"
    "  push %rbx\n"
    "  push %rbp\n"
    "  push %r12\n"
    "  push %r13\n"
    "  push %r14\n"
    "  push %r15\n"
    "  sub $8, %rsp\n"
    "  stmxcsr (%rsp)\n"
    "  fnstcw 4(%rsp)\n"
    "  mov %rsp, agent_saved_stack(%rip)\n"
    "  mov %rdx, %rsp\n"
    "  mov %rdi, %rax\n"
    "  mov %rsi, %r11\n"
    "  mov (%r11), %rdi\n"
    "  mov 8(%r11), %rsi\n"
    "  mov 16(%r11), %rdx\n"
    "  mov 24(%r11), %rcx\n"
    "  mov 32(%r11), %r8\n"
    "  mov 40(%r11), %r9\n"
    "  xor %ebp, %ebp\n"
    "  call *%rax\n"
    "  xor %eax, %eax\n"
    "  jmp 1f\n"
    ".globl escape\n"
    "escape:\n"
    "  fninit\n"
    "  mov $1, %eax\n"
    "1:\n"
    "  mov agent_saved_stack(%rip), %rsp\n"
    "  cld\n"
    "  ldmxcsr (%rsp)\n"
    "  fldcw 4(%rsp)\n"
    "  add $8, %rsp\n"
    "  pop %r15\n"
    "  pop %r14\n"
    "  pop %r13\n"
    "  pop %r12\n"
    "  pop %rbp\n"
    "  pop %rbx\n"
    "  ret\n"
    ".globl start_thread\n"
    "start_thread:\n"
    "  sub $16, %rdi\n"
    "  mov %rdx, (%rdi)\n"
    "  mov %rcx, 8(%rdi)\n"
    "  mov %rsi, %rdx\n"
    "  mov %rsi, %r10\n"
    "  mov %rdi, %rsi\n"
    "  mov $0x350f00, %edi\n" /* all shared; the id is set here and cleared at the end */
    "  mov $56, %eax\n"
    "  syscall\n"
    "  test %rax, %rax\n"
    "  jz 2f\n"
    "  ret\n"
    "2:\n"
    "  xor %ebp, %ebp\n"
    "  pop %rax\n"
    "  pop %rdi\n"
    "  call *%rax\n"
    "  ud2\n"
    ".globl do_nothing\n"
    "do_nothing:\n"
    "  ret\n"
    ".globl restore_signal\n"
    "restore_signal:\n"
    "  mov $15, %eax\n"
    "  syscall\n");
