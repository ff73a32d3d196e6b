/*
 * A kernel with a disk: it writes a text to sector 1, reads it back, and ends. It uses the virtio disk if there is one,
 * otherwise the disk on svirtb.
 */
#include "guest.h"

/* The beginning of hvm_start_info, which the loader passes. */
struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line;
};

static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

void print(const char *text) {
    while (*text) out8(0x3f8, (uint8_t)*text++); /* COM1 */
}

/* Ends the machine with status 0: a reset by the keyboard controller. */
static void reset(void) {
    out8(0x64, 0xfe);
    for (;;) __asm__ volatile("hlt");
}

/* The result goes to the debug exit: cafevm exits with (result << 1) | 1. */
int main(const struct start_info *info) {
    static const char text[] = "hello from my kernel";
    static uint8_t data[SECTOR];
    const struct disk *disk = virtio_open((const char *)(uintptr_t)info->command_line);
    if (!disk) disk = svirtb_open();
    if (!disk) {
        print("no disk: attach one with --disk FILE\n");
        return 1;
    }

    for (unsigned n = 0; n < sizeof text; n++) data[n] = (uint8_t)text[n];
    if (disk->transfer(1, data, 1)) {
        print("the write failed\n");
        return 2;
    }
    for (unsigned n = 0; n < SECTOR; n++) data[n] = 0;
    if (disk->transfer(1, data, 0)) {
        print("the read failed\n");
        return 3;
    }
    print(disk->name);
    print(": sector 1 holds \"");
    print((const char *)data);
    print("\"\n");
    reset();
    return 0;
}
