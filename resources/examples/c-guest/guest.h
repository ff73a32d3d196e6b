/* What the files of this kernel share. */
#ifndef GUEST_H
#define GUEST_H

#include <stdint.h>

enum { SECTOR = 512 };

/* A disk: returns 0 on success. `sector` counts 512 bytes. */
struct disk {
    const char *name;
    int (*transfer)(uint64_t sector, uint8_t *data, int write);
};

/* Each returns the disk, or 0 if there is none; `command_line` has the address of the virtio disk. */
const struct disk *virtio_open(const char *command_line);
const struct disk *svirtb_open(void);

static inline uint32_t read32(uintptr_t address) { return *(volatile uint32_t *)address; }
static inline void write32(uintptr_t address, uint32_t value) { *(volatile uint32_t *)address = value; }

/* The compiler must not move accesses to memory across this point. x86 keeps the order of stores by itself. */
static inline void barrier(void) { __asm__ volatile("" : : : "memory"); }
static inline void pause_cpu(void) { __asm__ volatile("pause" : : : "memory"); }

void print(const char *text);

#endif
