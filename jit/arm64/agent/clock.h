/* The clock.  The kernel maps a small library into every process (the vDSO) whose clock function
 * costs a few tens of nanoseconds, a tenth of a system call; where there is none, as in an
 * emulator, or where it is not understood, the system call serves. */
struct times { s64 seconds, nanoseconds; };
struct program_header { u32 type, flags; u64 offset, address, physical, file_bytes, bytes, align; };
struct dynamic { u64 tag, value; };
struct symbol { u32 name; u8 info, other; uint16_t section; u64 value, size; };

typedef long clock_function(int clock, struct times *result);
static clock_function *fast_clock;

static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

/* The address of `name` in a vDSO, found by its dynamic section, or 0. */
static u64 vdso_symbol(const u8 *image, const char *name) {
  const struct program_header *header = (const void *)(image + *(const u64 *)(image + 32));
  const struct dynamic *dynamic = NULL;
  u64 base = 0, strings = 0, symbols = 0, hash = 0;
  for (u32 i = *(const uint16_t *)(image + 56); i--; header++) {
    if (header->type == 1 /* PT_LOAD */) base = (u64)image + header->offset - header->address;
    if (header->type == 2 /* PT_DYNAMIC */) dynamic = (const void *)(image + header->offset);
  }
  for (; dynamic && dynamic->tag; dynamic++) {
    if (dynamic->tag == 4 /* DT_HASH */) hash = base + dynamic->value;
    if (dynamic->tag == 5 /* DT_STRTAB */) strings = base + dynamic->value;
    if (dynamic->tag == 6 /* DT_SYMTAB */) symbols = base + dynamic->value;
  }
  if (!hash || !strings || !symbols) return 0;
  const struct symbol *symbol = (const struct symbol *)symbols;
  for (u32 i = ((const u32 *)hash)[1]; i--; symbol++) /* the second word is their number */
    if (symbol->section && same((const char *)strings + symbol->name, name))
      return base + symbol->value;
  return 0;
}

static void find_clock(u64 vdso) {
  if (vdso) fast_clock = (clock_function *)vdso_symbol((const u8 *)vdso, CLOCK_SYMBOL);
}

static u64 now(void) {
  struct times t = {0, 0};
  if (fast_clock) fast_clock(1 /* CLOCK_MONOTONIC */, &t);
  else call3(SYS_clock_gettime, 1, (u64)&t, 0);
  return (u64)t.seconds * 1000000000u + (u64)t.nanoseconds;
}
