/*
 * A driver for virtio-blk on virtio-mmio (virtio 1.4, sections 2.7, 4.2 and 5.2). It has one queue, makes one request
 * at a time, and polls the used ring.
 */
#include "guest.h"

/* The registers, as offsets from the base of the slot (4.2.2). */
enum {
    MAGIC_VALUE = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, DEVICE_FEATURES = 0x010, DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024, QUEUE_SEL = 0x030, QUEUE_NUM_MAX = 0x034, QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050, STATUS = 0x070, QUEUE_DESC = 0x080, QUEUE_DRIVER = 0x090,
    QUEUE_DEVICE = 0x0a0,
};
/* The bits of the device status field (2.1). */
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
/* The flags of a descriptor (2.7.5), the types of a request (5.2.6). */
enum { NEXT = 1, WRITE = 2, TYPE_IN = 0, TYPE_OUT = 1 };
/* The entries of the queue: a power of two, at most QueueNumMax. */
enum { ENTRIES = 8 };

/*
 * The three parts of the queue, in memory that the device can reach. Here virtual addresses are physical ones. The last
 * field of each ring belongs to a feature that this driver does not accept (EVENT_IDX), but it is part of the ring.
 */
static struct { uint64_t addr; uint32_t len; uint16_t flags, next; } desc[ENTRIES] __attribute__((aligned(16)));
static volatile struct { uint16_t flags, idx, ring[ENTRIES], used_event; } avail __attribute__((aligned(2)));
static volatile struct { uint16_t flags, idx; struct { uint32_t id, len; } ring[ENTRIES]; uint16_t avail_event; } used __attribute__((aligned(4)));

/* A request: the device reads the header, transfers the data, and writes the status byte. */
static struct { uint32_t type, reserved; uint64_t sector; } header;
static volatile uint8_t status;

static uintptr_t base;
/* How many requests the driver has seen in the used ring. */
static uint16_t seen;

static int transfer(uint64_t sector, uint8_t *data, int write) {
    header.type = write ? TYPE_OUT : TYPE_IN;
    header.sector = sector;
    status = 0xff;
    desc[0].addr = (uintptr_t)&header, desc[0].len = sizeof header, desc[0].flags = NEXT, desc[0].next = 1;
    desc[1].addr = (uintptr_t)data, desc[1].len = SECTOR, desc[1].flags = write ? NEXT : NEXT | WRITE, desc[1].next = 2;
    desc[2].addr = (uintptr_t)&status, desc[2].len = 1, desc[2].flags = WRITE;

    /* First the entry, then the index, then the doorbell. */
    avail.ring[avail.idx % ENTRIES] = 0; /* the chain begins at descriptor 0 */
    barrier();
    avail.idx++;
    barrier();
    write32(base + QUEUE_NOTIFY, 0); /* queue 0 */

    while (used.idx == seen) {
        if (read32(base + STATUS) & NEEDS_RESET) return -1;
        pause_cpu();
    }
    seen++;
    return status;
}

static void set_address(unsigned offset, const volatile void *what) {
    write32(base + offset, (uint32_t)(uintptr_t)what);
    write32(base + offset + 4, (uint32_t)((uintptr_t)what >> 32));
}

/* The handshake (3.1.1). */
static int handshake(void) {
    if (read32(base + MAGIC_VALUE) != 0x74726976 || read32(base + VERSION) != 2) return -1;
    if (read32(base + DEVICE_ID) != 2) return -1; /* 2 is a disk, 0 an empty slot */
    write32(base + STATUS, 0);
    while (read32(base + STATUS)) pause_cpu();
    write32(base + STATUS, ACKNOWLEDGE);
    write32(base + STATUS, ACKNOWLEDGE | DRIVER);

    /* VERSION_1 is bit 32, and the only feature that this driver accepts. */
    write32(base + DEVICE_FEATURES_SEL, 1);
    if (!(read32(base + DEVICE_FEATURES) & 1)) return -1;
    write32(base + DRIVER_FEATURES_SEL, 0);
    write32(base + DRIVER_FEATURES, 0);
    write32(base + DRIVER_FEATURES_SEL, 1);
    write32(base + DRIVER_FEATURES, 1);
    write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (!(read32(base + STATUS) & FEATURES_OK)) return -1;

    write32(base + QUEUE_SEL, 0);
    if (read32(base + QUEUE_NUM_MAX) < ENTRIES) return -1;
    write32(base + QUEUE_NUM, ENTRIES);
    set_address(QUEUE_DESC, desc);
    set_address(QUEUE_DRIVER, &avail);
    set_address(QUEUE_DEVICE, &used);
    write32(base + QUEUE_READY, 1);
    write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    return 0;
}

/* The command line has virtio_mmio.device=512@ADDRESS:INTERRUPT for each virtio device. */
static uintptr_t address_of_slot(const char *line) {
    static const char word[] = "virtio_mmio.device=512@0x";
    for (; *line; line++) {
        unsigned n = 0;
        while (word[n] && line[n] == word[n]) n++;
        if (word[n]) continue;
        uintptr_t address = 0;
        for (line += n; *line != ':' && *line; line++)
            address = address * 16 + (uintptr_t)(*line <= '9' ? *line - '0' : *line - 'a' + 10);
        return address;
    }
    return 0;
}

const struct disk *virtio_open(const char *command_line) {
    static const struct disk disk = {"virtio", transfer};
    base = address_of_slot(command_line);
    return base && !handshake() ? &disk : 0;
}
