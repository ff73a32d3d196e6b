//! A request that is done while the disk's interrupt is in service: the handler has read InterruptStatus and written
//! InterruptACK, and has not ended the interrupt yet. Another interrupt must come for it (virtio 1.2, 4.2.3.4),
//! however the IOAPIC's pin is programmed.
//!
//! `t=edge` (default) or `t=level`: how the pin is programmed, active high in both. `rounds=N` (default 20).
//! The disk is the first on the command line, and is only asked for its name. The guest prints
//! `served N, in service N, spurious N, requests N` after each scenario: handler calls with a cause, calls whose
//! interrupt the local APIC had in service, calls without a cause, and requests. Where none is in service, KVM ends
//! interrupts as it delivers them (KVM PVM does), and an interrupt cannot be lost by that.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use drivers::virtio::spec::{INTERRUPT_ACK, INTERRUPT_STATUS, interrupt, request};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait, pause};
use rt::{apic, command_line, interrupts, port, println};
use scenario::block::Block;
use scenario::{Outcome, Piece, Report, Ring, ensure, ensure_eq, fail};

/// Entries of the queue: two requests of two descriptors.
const ENTRIES: u16 = 4;
/// How often the handler looks whether the device has done its request: it may use another thread of the host.
const LOOKS: u32 = 1_000_000;
/// Writes to a port that does nothing, which is an exit each and some microseconds: the handler stays for so many after
/// its request is done. KVM hands an irqfd's interrupt on from another thread, a little later.
const LINGER: u32 = 400;
/// A PC's port for delays.
const DELAY_PORT: u16 = 0x80;
/// How long an interrupt for nothing is waited for, in milliseconds.
const LATE: u32 = 5;

/// The disk. The handler takes it, too, so all others turn interrupts off first.
static DRIVER: Lock<Option<Driver>> = Lock::new(None);
/// Requests that the handler is to submit.
static WANTED: AtomicU32 = AtomicU32::new(0);
/// Calls of the handler with a cause, and without one.
static SERVED: AtomicU32 = AtomicU32::new(0);
/// Calls of the handler whose interrupt was in service.
static IN_SERVICE: AtomicU32 = AtomicU32::new(0);
static SPURIOUS: AtomicU32 = AtomicU32::new(0);

rt::entry!(main);

struct Driver {
    block: Block,
    ring: Ring,
    /// A chain made once, and given again and again.
    head: u16,
    requests: u32,
}

impl Driver {
    fn submit(&mut self) {
        self.ring.give(self.head);
        self.requests += 1;
        if self.ring.publish() {
            self.block.notify(0);
        }
    }

    fn window(&self) -> Mmio {
        self.block.window
    }
}

/// Does something with the disk, outside the handler. Interrupts are on afterwards.
fn with_driver<T>(work: impl FnOnce(&mut Driver) -> T) -> Option<T> {
    interrupts::disable();
    let done = DRIVER.with(|driver| driver.as_mut().map(work));
    interrupts::enable();
    done
}

fn interrupted(_: u64) {
    DRIVER.with(|driver| {
        let Some(driver) = driver else { return };
        let window = driver.window();
        let causes = INTERRUPT_STATUS.read(window);
        INTERRUPT_ACK.write(window, causes);
        IN_SERVICE.fetch_add(apic::in_service(driver.block.line).into(), Ordering::AcqRel);
        let kind = if causes & interrupt::USED_BUFFER == 0 { &SPURIOUS } else { &SERVED };
        kind.fetch_add(1, Ordering::AcqRel);
        if causes & interrupt::USED_BUFFER == 0 || WANTED.swap(0, Ordering::AcqRel) == 0 {
            return;
        }
        driver.submit();
        // The device sets InterruptStatus before it raises the line, and that must come while we are here.
        for _ in 0..LOOKS {
            if INTERRUPT_STATUS.read(window) & interrupt::USED_BUFFER != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        for _ in 0..LINGER {
            port::write8(DELAY_PORT, 0);
        }
    });
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let rounds = command_line::number("rounds").unwrap_or(20) as u32;
    let level = command_line::value("t") == Some("level");
    let mut line = 0;
    report.run("find-a-disk", || {
        line = start(level)?;
        Ok(())
    });
    if line == 0 {
        return report.code();
    }
    report.run("one-at-a-time", || run(rounds, false));
    report.run("one-while-in-service", || run(rounds, true));
    report.code()
}

/// The line of the disk, which is live then.
fn start(level: bool) -> Result<u8, scenario::Failure> {
    let block = Block::first()?;
    block.negotiate(0)?;
    let mut ring = Ring::new(ENTRIES);
    let header = Dma::new(16, 16);
    header.write(0, request::GET_ID);
    let answer = Dma::new(5, 1);
    let head = ring.chain(&[Piece::read(header), Piece::written(answer)]);
    // Only made, as yet.
    ring.withdraw();
    ring.want_interrupts(true);
    block.give_queue(0, &ring)?;
    interrupts::disable();
    DRIVER.with(|driver| *driver = Some(Driver { block, ring, head, requests: 0 }));
    interrupts::handle(block.line, interrupted, 0);
    if level {
        apic::route_level(block.line, apic::local_id());
    }
    interrupts::enable();
    block.start()?;
    Ok(block.line)
}

/// Requests one after the other, each with its interrupt; with `nested`, another one in each handler.
fn run(rounds: u32, nested: bool) -> Outcome {
    SERVED.store(0, Ordering::Release);
    SPURIOUS.store(0, Ordering::Release);
    IN_SERVICE.store(0, Ordering::Release);
    with_driver(|driver| driver.requests = 0);
    let requests = if nested { 2 } else { 1 };
    let outcome = (|| {
        for round in 0..rounds {
            WANTED.store(nested.into(), Ordering::Release);
            with_driver(Driver::submit);
            let wanted = (round + 1) * requests;
            let served = || SERVED.load(Ordering::Acquire);
            if !Wait::Interrupt.until(DEVICE_LIMIT / 10, || served() >= wanted) {
                let status = with_driver(|driver| INTERRUPT_STATUS.read(driver.window()));
                fail!(
                    "round {round}: {} interrupts of {wanted}; InterruptStatus is {:#x}",
                    served(),
                    status.unwrap_or(0)
                );
            }
            let done = with_driver(|driver| {
                let done = driver.ring.done();
                driver.ring.pass_over(done);
                u32::from(done)
            });
            ensure_eq!(done.unwrap_or(0), requests, "requests done in round {round}");
        }
        pause(LATE);
        let (served, spurious) = (SERVED.load(Ordering::Acquire), SPURIOUS.load(Ordering::Acquire));
        ensure_eq!(served, rounds * requests, "interrupts");
        // A level that falls late may bring one more.
        ensure!(spurious <= served, "{spurious} interrupts without a cause beside {served}");
        Ok(())
    })();
    println!(
        "served {}, in service {}, spurious {}, requests {}",
        SERVED.load(Ordering::Acquire),
        IN_SERVICE.load(Ordering::Acquire),
        SPURIOUS.load(Ordering::Acquire),
        with_driver(|driver| driver.requests).unwrap_or(0)
    );
    outcome
}
