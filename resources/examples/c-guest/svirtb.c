/*
 * A driver for svirtb, the teaching protocol: six registers and one ring. The device finishes all entries before the
 * write to the doorbell returns, so the driver needs no interrupt and no loop.
 */
#include "guest.h"

enum { BASE = 0xcafe0000u, STATUS = 0x00, QUEUE_SIZE = 0x04, ADDR_HI = 0x08, ADDR_LO = 0x0c, HEAD = 0x10, TAIL = 0x14 };
enum { MAGIC = 0x74726976, DRIVER_OK = 0, READY = 1, RESET = 2 };
enum { ENTRIES = 16, CMD_READ = 0, CMD_WRITE = 1 };

/* An entry has 28 bytes without padding; the compiler pads it to 32. The device detects both. */
static volatile struct { uint64_t addr, size, sector; uint32_t cmd; } ring[ENTRIES];
static uint32_t head;

static int handshake(void) {
    if (read32(BASE + STATUS) != MAGIC) return -1;
    write32(BASE + STATUS, DRIVER_OK);
    if (read32(BASE + STATUS) != DRIVER_OK) return -1;
    write32(BASE + ADDR_HI, (uint32_t)((uint64_t)(uintptr_t)ring >> 32));
    write32(BASE + ADDR_LO, (uint32_t)(uintptr_t)ring);
    write32(BASE + QUEUE_SIZE, ENTRIES);
    write32(BASE + STATUS, READY);
    head = 0;
    return read32(BASE + STATUS) == READY ? 0 : -1;
}

static int transfer(uint64_t sector, uint8_t *data, int write) {
    ring[head].addr = (uintptr_t)data;
    ring[head].size = SECTOR;
    ring[head].sector = sector;
    ring[head].cmd = write ? CMD_WRITE : CMD_READ;
    barrier();
    head = (head + 1) % ENTRIES;
    write32(BASE + HEAD, head); /* returns when the entry is finished */
    barrier();
    if (read32(BASE + TAIL) == head && read32(BASE + STATUS) == READY) return 0;
    /* The device stopped at the entry. Write RESET and start again. */
    write32(BASE + STATUS, RESET);
    handshake();
    return -1;
}

const struct disk *svirtb_open(void) {
    static const struct disk disk = {"svirtb", transfer};
    return handshake() ? 0 : &disk;
}
