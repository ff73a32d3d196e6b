//! The guest programs that the binary and the tests carry: ELF files for x86-64 with a PVH note, linked at 2 MiB.
//!
//! Their sources are the workspace in `resources/guests`; `build.rs` builds it. What each program reads from its
//! command line and prints is in its own file there.

/// The built-in guest: a block shell on the serial console (`guests/shell`).
pub static SHELL: &[u8] = include_bytes!(env!("GUEST_SHELL"));

/// The guest programs that tests boot (`guests/test-guests`).
///
/// Each prints one line `ok SCENARIO` or `FAIL SCENARIO: what was seen` for a scenario, and ends the machine by
/// port 0xf4 with 0 where all passed and 1 where one failed.
#[cfg(feature = "test-guests")]
pub mod test_guests {
    /// The same sectors over both buses, 128 a doorbell, with the time.
    pub static BATCHES: &[u8] = include_bytes!(env!("GUEST_BATCHES"));
    /// What the loader hands over, and each way for a guest to end.
    pub static BOOT: &[u8] = include_bytes!(env!("GUEST_BOOT"));
    /// Keeps a disk busy without end, by one doorbell.
    pub static BUSY: &[u8] = include_bytes!(env!("GUEST_BUSY"));
    /// Counts while a read is out.
    pub static COLD: &[u8] = include_bytes!(env!("GUEST_COLD"));
    /// Interrupts by index and without: none lost, none doubled.
    pub static EVENTS: &[u8] = include_bytes!(env!("GUEST_EVENTS"));
    /// As much as can be done wrong on both devices, without end.
    pub static FLOOD: &[u8] = include_bytes!(env!("GUEST_FLOOD"));
    /// All that can be done wrong with a GPU and input devices, while a disk is in use.
    pub static HOSTILE: &[u8] = include_bytes!(env!("GUEST_HOSTILE"));
    /// A svirtb driver that behaves as the KeV course's.
    pub static KEV: &[u8] = include_bytes!(env!("GUEST_KEV"));
    /// Five kinds of driver for the legacy register layout.
    pub static LEGACY: &[u8] = include_bytes!(env!("GUEST_LEGACY"));
    /// Interrupts that come while one is in service, on a level-triggered line and on an edge-triggered one.
    pub static LEVEL: &[u8] = include_bytes!(env!("GUEST_LEVEL"));
    /// A disk with limits beside one without.
    pub static LIMITED: &[u8] = include_bytes!(env!("GUEST_LIMITED"));
    /// Requests of all kinds, sizes and splits against a model of the disk.
    pub static MIXED: &[u8] = include_bytes!(env!("GUEST_MIXED"));
    /// Several disks of both kinds at once.
    pub static MULTI: &[u8] = include_bytes!(env!("GUEST_MULTI"));
    /// Numbered sectors without end, for a host that kills the monitor, or the server behind its disk.
    pub static NUMBERED: &[u8] = include_bytes!(env!("GUEST_NUMBERED"));
    /// One or two vCPUs that keep queues busy, and measure.
    pub static PARALLEL: &[u8] = include_bytes!(env!("GUEST_PARALLEL"));
    /// rCore's published driver crate, `virtio-drivers`.
    pub static RCORE: &[u8] = include_bytes!(env!("GUEST_RCORE"));
    /// Resets with requests under way, again and again.
    pub static RESET: &[u8] = include_bytes!(env!("GUEST_RESET"));
    /// Two vCPUs with a disk each, or one between them.
    pub static SMP: &[u8] = include_bytes!(env!("GUEST_SMP"));
    /// A virtio driver that behaves as SOS's.
    pub static SOS: &[u8] = include_bytes!(env!("GUEST_SOS"));
    /// svirtb: the handshake, the ring, and every way to break them.
    pub static SVIRTB: &[u8] = include_bytes!(env!("GUEST_SVIRTB"));
    /// A virtio driver that behaves as xv6's.
    pub static XV6: &[u8] = include_bytes!(env!("GUEST_XV6"));
}

/// A kernel in C with a driver for each protocol, as `cafevm new` writes it: the names of the files, and their text.
pub const C_GUEST: [(&str, &str); 6] = [
    ("Makefile", include_str!("../examples/c-guest/Makefile")),
    ("entry.S", include_str!("../examples/c-guest/entry.S")),
    ("guest.h", include_str!("../examples/c-guest/guest.h")),
    ("main.c", include_str!("../examples/c-guest/main.c")),
    ("svirtb.c", include_str!("../examples/c-guest/svirtb.c")),
    ("virtio.c", include_str!("../examples/c-guest/virtio.c")),
];
