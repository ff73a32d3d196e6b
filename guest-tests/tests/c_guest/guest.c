/*
 * The guest of somebody who writes in C and owns nothing of ours: finds its disk by virtio_mmio.device= on the command
 * line, swaps two of its sectors, by polling, and ends with the code that code= says.
 *
 * Prints: the number of sectors, then "swapped A B" where swap=A,B named them.
 */
#include <stdint.h>

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line;
};

enum { ENTRIES = 8, SECTOR = 512, NEXT = 1, WRITE = 2, IN = 0, OUT = 1 };

static struct { uint64_t addr; uint32_t len; uint16_t flags, next; } desc[ENTRIES] __attribute__((aligned(16)));
static volatile struct { uint16_t flags, idx, ring[ENTRIES]; } avail __attribute__((aligned(2)));
static volatile struct { uint16_t flags, idx; struct { uint32_t id, len; } ring[ENTRIES]; } used __attribute__((aligned(4)));
static struct { uint32_t type, reserved; uint64_t sector; } header;
static volatile uint8_t status;
static uint8_t first[SECTOR], second[SECTOR];
static volatile uint32_t *regs;

static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static void print(const char *text) { while (*text) out8(0x3f8, (uint8_t)*text++); }

static void print_number(uint64_t number) {
    char text[21], *at = text + 20;
    *at = 0;
    do *--at = (char)('0' + number % 10); while (number /= 10);
    print(at);
}

/* The code of a guest that cannot go on; what it could not is printed. */
static int give_up(const char *why) { print(why); print("\n"); return 99; }

static uint32_t get(unsigned offset) { return regs[offset / 4]; }
static void set(unsigned offset, uint32_t value) { regs[offset / 4] = value; }
static void set_address(unsigned offset, const volatile void *what) {
    set(offset, (uint32_t)(uintptr_t)what);
    set(offset + 4, (uint32_t)((uintptr_t)what >> 32));
}

static const char *value_of(const char *line, const char *name) {
    for (;;) {
        const char *a = line, *b = name;
        while (*b && *a == *b) a++, b++;
        if (!*b) return a;
        while (*line && *line != ' ') line++;
        if (!*line) return 0;
        while (*line == ' ') line++;
    }
}

/* Reads a number, decimal or hexadecimal after 0x, and steps over it. */
static uint64_t number(const char **text) {
    uint64_t value = 0, base = 10;
    if ((*text)[0] == '0' && (*text)[1] == 'x') base = 16, *text += 2;
    for (;; (*text)++) {
        char c = **text;
        if (c >= '0' && c <= '9') value = value * base + (uint64_t)(c - '0');
        else if (base == 16 && c >= 'a' && c <= 'f') value = value * base + (uint64_t)(c - 'a' + 10);
        else return value;
    }
}

/* One request of one sector; 0 where it is done. */
static int request(uint32_t type, uint64_t sector, uint8_t *data) {
    static uint16_t seen;
    header.type = type;
    header.sector = sector;
    status = 0xff;
    desc[0].addr = (uintptr_t)&header, desc[0].len = 16, desc[0].flags = NEXT, desc[0].next = 1;
    desc[1].addr = (uintptr_t)data, desc[1].len = SECTOR;
    desc[1].flags = type == IN ? NEXT | WRITE : NEXT, desc[1].next = 2;
    desc[2].addr = (uintptr_t)&status, desc[2].len = 1, desc[2].flags = WRITE;
    avail.ring[avail.idx % ENTRIES] = 0;
    __asm__ volatile("" : : : "memory");
    avail.idx++;
    set(0x050, 0);
    while (used.idx == seen) __asm__ volatile("pause" : : : "memory");
    seen++;
    return status;
}

int main(const struct start_info *info) {
    const char *line = (const char *)(uintptr_t)info->command_line;
    const char *at = value_of(line, "virtio_mmio.device=");
    const char *code = value_of(line, "code="), *swap = value_of(line, "swap=");
    if (info->magic != 0x336ec578) return give_up("not started by PVH");
    if (!at || !code || !swap) return give_up("a word is missing on the command line");
    if (number(&at) != 0x200 || *at++ != '@') return give_up("not a window of 512 bytes");
    regs = (volatile uint32_t *)(uintptr_t)number(&at);
    if (*at != ':') return give_up("no interrupt line");
    if (get(0x000) != 0x74726976 || get(0x004) != 2 || get(0x008) != 2) return give_up("no disk there");

    set(0x070, 0);
    set(0x070, 3);
    set(0x024, 0), set(0x020, 0);
    set(0x024, 1), set(0x020, 1); /* VERSION_1 */
    set(0x070, 11);
    if (!(get(0x070) & 8)) return give_up("no agreement on features");
    set(0x030, 0);
    set(0x038, ENTRIES);
    set_address(0x080, desc);
    set_address(0x090, &avail);
    set_address(0x0a0, &used);
    set(0x044, 1);
    set(0x070, 15);
    print_number(get(0x100) | (uint64_t)get(0x104) << 32);
    print(" sectors\n");

    uint64_t a = number(&swap), b = (swap++, number(&swap));
    if (request(IN, a, first) || request(IN, b, second)) return give_up("a read failed");
    if (request(OUT, a, second) || request(OUT, b, first)) return give_up("a write failed");
    print("swapped "), print_number(a), print(" "), print_number(b), print("\n");
    return (int)number(&code);
}
