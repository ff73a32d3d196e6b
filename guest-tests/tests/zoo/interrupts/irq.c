/*
 * The interrupt of the virtio disk, for the drivers of the zoo that sleep: local APIC, IOAPIC, one handler.
 */
#include "guest.h"

enum { IOAPIC = 0xfec00000, LOCAL_APIC = 0xfee00000 };
/* Of the local APIC: end of interrupt; spurious interrupt vector, with the enable bit. */
enum { EOI = 0x0b0, SPURIOUS = 0x0f0, ENABLE = 0x100 };
enum { INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064 };
enum { PIN = 5, VECTOR = 0x30, PRESENT = 0x8e00 };

struct frame;
static struct { uint16_t low, selector, flags, middle; uint32_t high, reserved; } idt[256];
static uintptr_t device;
static volatile int came;

static __attribute__((interrupt)) void handler(struct frame *frame) {
    (void)frame;
    uint32_t reasons = read32(device + INTERRUPT_STATUS);
    write32(device + INTERRUPT_ACK, reasons);
    write32(LOCAL_APIC + EOI, 0);
    came = 1;
}

static void redirect(unsigned pin, uint32_t low) {
    write32(IOAPIC, 0x10 + 2 * pin + 1);
    write32(IOAPIC + 0x10, 0); /* to the local APIC 0 */
    write32(IOAPIC, 0x10 + 2 * pin);
    write32(IOAPIC + 0x10, low);
}

void irq_open(uintptr_t base) {
    uintptr_t address = (uintptr_t)handler;
    struct { uint16_t limit; uintptr_t base; } __attribute__((packed)) pointer = {sizeof idt - 1, (uintptr_t)idt};
    device = base;
    idt[VECTOR].low = (uint16_t)address, idt[VECTOR].middle = (uint16_t)(address >> 16);
    idt[VECTOR].selector = 8, idt[VECTOR].flags = PRESENT;
    __asm__ volatile("lidt %0" : : "m"(pointer));
    /* Mask the two PICs, which send vectors of exceptions after a reset. */
    __asm__ volatile("outb %b0, $0x21; outb %b0, $0xa1" : : "a"(0xff));
    write32(LOCAL_APIC + SPURIOUS, ENABLE | 0xff);
    redirect(PIN, VECTOR);
}

/* Sleeps until the interrupt has come. Between sti and hlt none is taken, so none is lost. */
void irq_wait(void) {
    while (!came) __asm__ volatile("sti; hlt; cli" : : : "memory");
    came = 0;
}
