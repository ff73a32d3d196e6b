//! The status machine and the registers.

use drivers::svirtb::{
    DRIVER_OK, MAGIC, QUEUE_ADDR_HI, QUEUE_ADDR_LO, QUEUE_HEAD, QUEUE_SIZE, QUEUE_TAIL, READY,
    REGISTERS, RESET, Ring, window,
};
use rt::mmio::Mmio;
use scenario::{Outcome, Report, ensure_eq};

use crate::machine::{
    describe, end_of_ram, head, new_ring, open, reset, ring_doorbell, set_status, status, tail,
};

const UNKNOWN: [u32; 3] = [3, 0x8000_0000, 0xffff_ffff];

pub(crate) fn run(report: &mut Report) {
    let ring = new_ring();
    report.run("handshake", || {
        ensure_eq!(status(), MAGIC, "status of a fresh device");
        all_zero_but_status()?;
        open(ring)?;
        ensure_eq!(QUEUE_ADDR_HI.read(window()), 0, "queue_addr_hi");
        ensure_eq!(u64::from(QUEUE_ADDR_LO.read(window())), ring.address(), "queue_addr_lo");
        ensure_eq!(QUEUE_SIZE.read(window()), ring.entries(), "queue_size");
        Ok(())
    });
    report.run("the-queue-registers-in-any-order", || {
        reset()?;
        set_status(DRIVER_OK);
        QUEUE_SIZE.write(window(), ring.entries());
        QUEUE_ADDR_LO.write(window(), ring.address() as u32);
        QUEUE_ADDR_HI.write(window(), 0);
        set_status(READY);
        ensure_eq!(status(), READY, "status after READY");
        Ok(())
    });
    report.run("reset-clears-everything-in-every-state", || {
        for state in States::all(ring) {
            state.enter()?;
            reset()?;
            all_zero_but_status()?;
        }
        Ok(())
    });
    report.run("every-other-status-write-is-an-error", || wrong_orders(ring));
    report.run("only-reset-ends-the-error-state", || {
        for value in [MAGIC, DRIVER_OK, READY].into_iter().chain(UNKNOWN) {
            open(ring)?;
            set_status(MAGIC);
            ensure_eq!(status(), RESET, "status after MAGIC was written");
            set_status(value);
            ensure_eq!(status(), RESET, "status after {value:#x} was written in the error state");
        }
        Ok(())
    });
    report.run("a-ring-that-is-not-valid-is-refused", || rings_that_are_not_valid(ring));
    report.run("queue-registers-only-in-driver-ok", || queue_registers(ring));
    report.run("the-doorbell-only-in-ready", || {
        for state in States::all(ring) {
            state.enter()?;
            if status() != READY {
                let (before, now) = (head(), status());
                ring_doorbell(5);
                ensure_eq!(head(), before, "queue_head after the doorbell in status {now:#x}");
                ensure_eq!(status(), now, "status after the doorbell");
                ensure_eq!(tail(), 0, "queue_tail after the doorbell in status {now:#x}");
            }
        }
        Ok(())
    });
    report.run("the-tail-is-not-the-drivers", || {
        for state in States::all(ring) {
            state.enter()?;
            let now = status();
            QUEUE_TAIL.write(window(), 3);
            ensure_eq!(tail(), 0, "queue_tail after it was written in status {now:#x}");
            ensure_eq!(status(), now, "status after queue_tail was written");
        }
        Ok(())
    });
    report.run("no-other-width-or-offset", || widths(ring));
}

/// Each state of the device, and how to get there.
#[derive(Clone, Copy)]
enum States {
    Magic,
    DriverOk,
    Ready(Ring),
    Error,
}

impl States {
    fn all(ring: Ring) -> [States; 4] {
        [States::Magic, States::DriverOk, States::Ready(ring), States::Error]
    }

    fn enter(self) -> Outcome {
        reset()?;
        match self {
            States::Magic => {}
            States::DriverOk => set_status(DRIVER_OK),
            States::Ready(ring) => open(ring)?,
            States::Error => {
                set_status(MAGIC);
                ensure_eq!(status(), RESET, "status after MAGIC was written");
            }
        }
        Ok(())
    }
}

fn all_zero_but_status() -> Outcome {
    for register in &REGISTERS[1..] {
        ensure_eq!(register.read(window()), 0, "{} of a fresh device", register.name);
    }
    Ok(())
}

fn wrong_orders(ring: Ring) -> Outcome {
    let known: [(States, &[u32]); 3] = [
        (States::Magic, &[MAGIC, READY]),
        (States::DriverOk, &[MAGIC, DRIVER_OK]),
        (States::Ready(ring), &[MAGIC, DRIVER_OK, READY]),
    ];
    for (state, values) in known {
        for value in values.iter().copied().chain(UNKNOWN) {
            state.enter()?;
            let before = status();
            set_status(value);
            ensure_eq!(status(), RESET, "status after {value:#x} was written over {before:#x}");
        }
    }
    Ok(())
}

fn rings_that_are_not_valid(ring: Ring) -> Outcome {
    let size = 28 * u64::from(ring.entries());
    let top = end_of_ram();
    let bad = [
        ("no entries", ring.address(), 0),
        ("the most entries", ring.address(), u32::MAX),
        ("the device's own page", 0xcafe_0000, 16),
        ("the hole above RAM", 0xd000_0000, 16),
        ("right above RAM", top, 1),
        ("over the end of RAM", top - size + 4, ring.entries()),
        ("over the end of the address space", u64::MAX - 27, 1),
        ("over it by far", u64::MAX - 100, 16),
    ];
    for (what, address, entries) in bad {
        reset()?;
        set_status(DRIVER_OK);
        describe(address, entries);
        set_status(READY);
        ensure_eq!(status(), RESET, "status with a ring in {what}");
    }
    // And one that just fits, by the smaller of the two entry sizes.
    reset()?;
    set_status(DRIVER_OK);
    describe(top - size, ring.entries());
    set_status(READY);
    ensure_eq!(status(), READY, "status with a ring up to the end of RAM");
    Ok(())
}

fn queue_registers(ring: Ring) -> Outcome {
    for state in [States::Magic, States::Ready(ring), States::Error] {
        state.enter()?;
        let now = status();
        for register in [QUEUE_SIZE, QUEUE_ADDR_HI, QUEUE_ADDR_LO] {
            let before = register.read(window());
            register.write(window(), before ^ 0x55);
            ensure_eq!(
                register.read(window()),
                before,
                "{} after it was written in status {now:#x}",
                register.name
            );
            ensure_eq!(status(), now, "status after {} was written", register.name);
        }
    }
    // A ring that was described before its time is none.
    reset()?;
    describe(ring.address(), ring.entries());
    set_status(DRIVER_OK);
    set_status(READY);
    ensure_eq!(status(), RESET, "status where the ring was described before DRIVER_OK");
    Ok(())
}

/// Reads at an offset of a window, in some width.
type Read = fn(Mmio, u64) -> u64;

/// A read of another width or at another offset gives zeros, a write does nothing.
fn widths(ring: Ring) -> Outcome {
    open(ring)?;
    let window = window();
    let reads: [(&str, u64, Read); 10] = [
        ("8 bits of status", 0, |w, at| w.read8(at).into()),
        ("16 bits of status", 0, |w, at| w.read16(at).into()),
        ("64 bits of status", 0, Mmio::read64),
        ("8 bits of queue_size", 4, |w, at| w.read8(at).into()),
        ("64 bits of the address", 8, Mmio::read64),
        ("32 bits between two registers", 2, |w, at| w.read32(at).into()),
        ("32 bits at an odd offset", 0xd, |w, at| w.read32(at).into()),
        ("32 bits after the last register", 0x18, |w, at| w.read32(at).into()),
        ("32 bits at the end of the page", 0xffc, |w, at| w.read32(at).into()),
        ("8 bits at the end of the page", 0xfff, |w, at| w.read8(at).into()),
    ];
    for (what, offset, read) in reads {
        ensure_eq!(read(window, offset), 0, "{what}");
    }
    // Each would reset the device, end the error-free state or move the ring if it were taken.
    window.write8(0, RESET as u8);
    window.write16(0, RESET as u16);
    window.write64(0, u64::from(RESET));
    window.write32(2, RESET);
    window.write8(QUEUE_HEAD.offset, 1);
    window.write16(QUEUE_HEAD.offset, 1);
    window.write64(QUEUE_HEAD.offset, 1);
    window.write32(0x18, 1);
    window.write32(0xffc, 1);
    ensure_eq!(status(), READY, "status after writes of other widths");
    ensure_eq!(head(), 0, "queue_head after writes of other widths");
    ensure_eq!(tail(), 0, "queue_tail after writes of other widths");
    ensure_eq!(QUEUE_SIZE.read(window), ring.entries(), "queue_size after writes of other widths");
    Ok(())
}
