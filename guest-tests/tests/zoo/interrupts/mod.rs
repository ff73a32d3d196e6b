//! Mistakes with interrupts. The driver is that of `cafevm new`, but it sleeps until its interrupt comes (`irq.c`).

use crate::mistakes::{Mistake, mistake};

/// The handler and the set-up of the interrupt controllers.
pub(crate) const SOURCE: &str = include_str!("irq.c");

/// What makes the polling driver sleep: changes in virtio.c.
pub(crate) const SLEEPS: [(&str, &str); 4] = [
    (
        "#include \"guest.h\"\n",
        "#include \"guest.h\"\nvoid irq_open(uintptr_t base);\nvoid irq_wait(void);\n",
    ),
    (
        "    while (used.idx == seen) {
        if (read32(base + STATUS) & NEEDS_RESET) return -1;
        pause_cpu();
    }
",
        "    irq_wait();\n",
    ),
    (
        "    set_address(QUEUE_DESC, desc);",
        "    irq_open(base);\n    set_address(QUEUE_DESC, desc);",
    ),
    // It reads the first sector some times, so that more than one interrupt comes.
    (
        "    return base && !handshake() ? &disk : 0;",
        "    static uint8_t first[SECTOR];
    if (!base || handshake()) return 0;
    for (int n = 0; n < 5; n++)
        if (transfer(0, first, 0)) return 0;
    return &disk;",
    ),
];

/// Mistakes that end in a triple fault, each with the hint that the crash report must have.
pub(crate) const FATAL: &[(Mistake, &str)] = &[
    (
        mistake("no handler", "PRESENT = 0x8e00", "PRESENT = 0x0e00", &[]),
        "entry 0x30 of its IDT is not present",
    ),
    (
        mistake(
            "the PIC is not masked",
            "    __asm__ volatile(\"outb %b0, $0x21; outb %b0, $0xa1\" : : \"a\"(0xff));\n",
            "",
            &[],
        ),
        "interrupt 5 came through the PIC as vector 0x5",
    ),
];

/// Mistakes in irq.c and in virtio.c. A missing end of interrupt is not among them: the KVM of some machines delivers the
/// next interrupt all the same.
pub(crate) const MISTAKES: &[Mistake] = &[
    mistake(
        "the interrupt is not acknowledged",
        "    write32(device + INTERRUPT_ACK, reasons);\n",
        "    (void)reasons;\n",
        &["virtio.irq-acknowledge"],
    ),
    mistake(
        "the interrupt is acknowledged unread",
        "    uint32_t reasons = read32(device + INTERRUPT_STATUS);\n    write32(device + INTERRUPT_ACK, reasons);",
        "    write32(device + INTERRUPT_ACK, 1);",
        &["virtio.irq-status"],
    ),
    mistake(
        "reasons that do not exist are acknowledged",
        "    write32(device + INTERRUPT_ACK, reasons);",
        "    write32(device + INTERRUPT_ACK, reasons | 0xf0);",
        &["virtio.interrupt-ack"],
    ),
    mistake(
        "the pin is masked",
        "    redirect(PIN, VECTOR);",
        "    redirect(PIN, VECTOR | 1 << 16);",
        &["guest.waits"],
    ),
    mistake("the pin of another device", "enum { PIN = 5,", "enum { PIN = 6,", &["guest.waits"]),
    mistake("interrupts stay disabled", "\"sti; hlt; cli\"", "\"hlt\"", &["guest.waits"]),
    mistake(
        "the local APIC is off",
        "    write32(LOCAL_APIC + SPURIOUS, ENABLE | 0xff);",
        "    write32(LOCAL_APIC + SPURIOUS, 0xff);",
        &["guest.waits"],
    ),
    mistake("the vector of an exception", "VECTOR = 0x30", "VECTOR = 0x0c", &["guest.waits"]),
    mistake(
        "interrupts are suppressed",
        "    desc[0].addr = (uintptr_t)&header",
        "    avail.flags = 1; /* NO_INTERRUPT */\n    desc[0].addr = (uintptr_t)&header",
        &["guest.sleeps"],
    ),
    mistake(
        "EVENT_IDX is accepted and not used",
        "    write32(base + DRIVER_FEATURES, 0);",
        "    write32(base + DRIVER_FEATURES, 1u << 29);",
        &["guest.sleeps"],
    ),
];
