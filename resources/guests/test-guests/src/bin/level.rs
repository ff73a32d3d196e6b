//! Interrupts on an IOAPIC pin that the guest programs level- or edge-triggered: none is lost.
//!
//! An IOAPIC does not remember that a level-triggered line was high while its interrupt was in service, or while its
//! pin was masked: it looks at the line when the EOI comes, or when the pin is unmasked. So the line has to stay high
//! while InterruptStatus is not 0 (virtio 1.4, 4.2.3.4); a pulse is not enough.
//!
//! Some hosts (KVM that emulates guests, as kvm_pvm does) end an interrupt by themselves when the processor takes it:
//! in the handler the local APIC has nothing in service. There a pulse in the handler is not lost, so that only the
//! scenario with a masked pin shows the difference; and a line that stays high until the acknowledgement is taken a
//! second time, without a cause. The guest prints `in service in the handler: true` or `false`.
//!
//! `trigger=level` (default) or `trigger=edge` programs the pin. `rounds=N` (default 200): requests of the scenarios
//! with one request a round; the others take N / 10 rounds. The disk is the first on the command line, of N sectors at
//! least, and is only read. After each scenario the guest prints `NAME: interrupts with a cause N, without N`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use drivers::virtio::spec::{INTERRUPT_ACK, INTERRUPT_STATUS, interrupt as cause, request};
use rt::apic::{self, Trigger};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::wait::{DEVICE_LIMIT, Wait, pause};
use rt::{command_line, interrupts, println};
use scenario::block::Block;
use scenario::{Failure, Outcome, Piece, Report, Ring, ensure, ensure_eq, fail, pattern};

const SECTOR: usize = 512;
const HEADER: usize = 16;
/// Entries of the ring. A round has two requests of three descriptors at most.
const ENTRIES: u16 = 8;
/// Timer ticks (128 ns under KVM) that the handler lets pass after the second request is done, before the EOI: 5 ms.
/// The host may raise the line from another thread, some time after the request is done.
const HOLD: u32 = 40_000;
/// How long an interrupt too many is waited for, in milliseconds.
const LATE: u32 = 5;

/// What the interrupt handler and the main program share. The main program takes it with interrupts off only, so that
/// the handler never waits for it.
static DRIVER: Lock<Option<Driver>> = Lock::new(None);
/// Interrupts in this scenario for which InterruptStatus named a used buffer.
static WITH_CAUSE: AtomicU32 = AtomicU32::new(0);
/// Interrupts in this scenario for which InterruptStatus was 0.
static WITHOUT_CAUSE: AtomicU32 = AtomicU32::new(0);
/// The second request of the round was done before the EOI of the first one's interrupt.
static DONE_IN_SERVICE: AtomicBool = AtomicBool::new(false);
/// The local APIC had the latest interrupt in service when the handler looked.
static IN_SERVICE: AtomicBool = AtomicBool::new(false);

rt::entry!(main);

/// When the handler acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledge {
    /// Before it submits the second request.
    First,
    /// After the second request is done.
    Last,
}

/// A request to read one sector, made once for each place in a round.
#[derive(Clone, Copy, Debug)]
struct Request {
    header: Dma,
    data: Dma,
    status: Dma,
}

impl Request {
    fn new() -> Request {
        Request { header: Dma::new(HEADER, 16), data: Dma::new(SECTOR, 16), status: Dma::new(1, 1) }
    }

    fn prepare(&self, sector: u64) {
        self.header.write(0, request::IN);
        self.header.write(8, sector);
        self.data.fill(0xee);
        self.status.write(0, 0xff_u8);
    }

    fn pieces(&self) -> [Piece; 3] {
        [Piece::read(self.header), Piece::written(self.data), Piece::written(self.status)]
    }

    fn check(&self, sector: u64) -> Outcome {
        ensure_eq!(self.status.read::<u8>(0), request::OK, "status of the read of sector {sector}");
        pattern::check(self.data, pattern::SEED, sector * SECTOR as u64)
    }
}

struct Driver {
    block: Block,
    ring: Ring,
    requests: [Request; 2],
    /// What the handler has yet to do in this round: submit the second request, and when to acknowledge.
    second: Option<Acknowledge>,
}

impl Driver {
    /// Hands the device request `index` of the round, and rings.
    fn submit(&mut self, index: usize) {
        self.ring.chain(&self.requests[index].pieces());
        if self.ring.publish() {
            self.block.notify(0);
        }
    }

    /// Forgets what a failed round left.
    fn recover(&mut self) {
        self.second = None;
        self.ring.pass_over(self.ring.done());
        let window = self.block.window;
        INTERRUPT_ACK.write(window, INTERRUPT_STATUS.read(window));
    }

    /// The interrupt handler, up to the EOI.
    fn interrupted(&mut self) {
        let window = self.block.window;
        let causes = INTERRUPT_STATUS.read(window);
        let counter = if causes & cause::USED_BUFFER != 0 { &WITH_CAUSE } else { &WITHOUT_CAUSE };
        counter.fetch_add(1, Ordering::AcqRel);
        IN_SERVICE.store(apic::in_service(self.block.line), Ordering::Release);
        // One without a cause is not that of the round's first request.
        let second = if causes == 0 { None } else { self.second.take() };
        if second != Some(Acknowledge::Last) {
            INTERRUPT_ACK.write(window, causes);
        }
        if second.is_some() {
            self.submit(1);
            // The main program's timer runs: it limits this, too.
            while self.ring.done() < 2 && apic::timer_left() != 0 {
                core::hint::spin_loop();
            }
            DONE_IN_SERVICE.store(self.ring.done() == 2, Ordering::Release);
            let until = apic::timer_left().saturating_sub(HOLD);
            while apic::timer_left() > until {
                core::hint::spin_loop();
            }
        }
        if second == Some(Acknowledge::Last) {
            INTERRUPT_ACK.write(window, causes);
        }
    }
}

fn interrupted(_: u64) {
    DRIVER.with(|driver| {
        if let Some(driver) = driver {
            driver.interrupted();
        }
    });
}

/// The driver, with interrupts off for as long. They are off afterwards: [`Wait::Interrupt`] lets them in.
fn with_driver<R>(work: impl FnOnce(&mut Driver) -> R) -> Result<R, Failure> {
    interrupts::disable();
    match DRIVER.with(|driver| driver.as_mut().map(work)) {
        Some(result) => Ok(result),
        None => fail!("the disk is not set up"),
    }
}

/// Interrupts of this scenario so far: with a cause, and without.
fn taken() -> (u32, u32) {
    (WITH_CAUSE.load(Ordering::Acquire), WITHOUT_CAUSE.load(Ordering::Acquire))
}

/// Finds the disk, programs its pin, and puts the driver where the handler finds it.
fn open(trigger: Trigger) -> Outcome {
    let block = Block::first()?;
    ensure!(block.line < interrupts::LINES, "no line {}", block.line);
    block.negotiate(0)?;
    let mut ring = Ring::new(ENTRIES);
    ring.want_interrupts(true);
    block.give_queue(0, &ring)?;
    block.start()?;
    let requests = [Request::new(), Request::new()];
    interrupts::disable();
    DRIVER.with(|place| *place = Some(Driver { block, ring, requests, second: None }));
    interrupts::handle_triggered(block.line, trigger, interrupted, 0);
    interrupts::enable();
    Ok(())
}

/// Prepares a round's requests, and hands over the first. Its interrupt, or that of the pin once it is unmasked, is
/// taken in a wait with the timer running: interrupts are off.
fn submit(sector: u64, second: Option<Acknowledge>) -> Outcome {
    DONE_IN_SERVICE.store(false, Ordering::Release);
    with_driver(|driver| {
        for (request, sector) in driver.requests.iter().zip([sector, 0]) {
            request.prepare(sector);
        }
        driver.second = second;
        driver.submit(0);
    })
}

/// Waits until there were `wanted` interrupts with a cause since the scenario began, and checks the round's requests.
fn finish(sector: u64, requests: u16, wanted: u32) -> Outcome {
    let came = Wait::Interrupt.until(DEVICE_LIMIT, || taken().0 >= wanted);
    with_driver(|driver| {
        let (done, status) = (driver.ring.done(), INTERRUPT_STATUS.read(driver.block.window));
        driver.recover();
        ensure!(
            came,
            "round {sector}: an interrupt is lost: {} of {wanted} with a cause came; {done} of {requests} requests \
             are done, InterruptStatus {status:#x}",
            taken().0
        );
        ensure_eq!(done, requests, "round {sector}: requests done");
        driver.requests[0].check(sector)?;
        if requests == 2 { driver.requests[1].check(0) } else { Ok(()) }
    })?
}

/// Runs `round` so often, counting anew; lets an interrupt too many come, and prints what there was.
fn rounds(name: &str, rounds: u32, round: impl Fn(u32) -> Outcome) -> Outcome {
    interrupts::disable();
    WITH_CAUSE.store(0, Ordering::Release);
    WITHOUT_CAUSE.store(0, Ordering::Release);
    interrupts::enable();
    let result = (0..rounds).try_for_each(round);
    interrupts::enable();
    pause(LATE);
    let (with, without) = taken();
    println!("{name}: interrupts with a cause {with}, without {without}");
    result
}

/// Fails unless there were so many interrupts with a cause, and none without. Of a level-triggered pin there may be
/// one without for each with, where the host ends an interrupt before the handler has acknowledged it.
fn counted(trigger: Trigger, wanted: u32) -> Outcome {
    let (with, without) = taken();
    ensure_eq!(with, wanted, "interrupts with a cause");
    let again = trigger == Trigger::Level && !IN_SERVICE.load(Ordering::Acquire);
    let most = if again { with } else { 0 };
    ensure!(without <= most, "{without} interrupts without a cause, at most {most} expected");
    Ok(())
}

/// One request and one interrupt a round.
fn one_a_round(name: &str, trigger: Trigger, count: u32) -> Outcome {
    rounds(name, count, |n| {
        submit(n.into(), None)?;
        finish(n.into(), 1, n + 1)
    })?;
    counted(trigger, count)
}

/// Fails unless the round's second request was done where the test wants it: before the EOI.
fn was_before_the_eoi() -> Outcome {
    let done = DONE_IN_SERVICE.load(Ordering::Acquire);
    ensure!(done, "the second request was not done before the EOI");
    Ok(())
}

/// The handler acknowledges, then submits: the second request is a cause that the acknowledgement does not cover, so
/// that a second interrupt must come.
fn acknowledged_before(name: &str, trigger: Trigger, count: u32) -> Outcome {
    rounds(name, count, |n| {
        submit(n.into(), Some(Acknowledge::First))?;
        finish(n.into(), 2, 2 * (n + 1))?;
        was_before_the_eoi()
    })?;
    counted(trigger, 2 * count)
}

/// The handler submits, then acknowledges: that covers both requests, and InterruptStatus is 0 at the EOI. A line that
/// follows InterruptStatus brings no second interrupt; one that pulses may bring one that finds no cause. Either way
/// the driver finds both requests in the ring, and the line works on.
fn acknowledged_after(name: &str, _: Trigger, count: u32) -> Outcome {
    rounds(name, count, |n| {
        submit(n.into(), Some(Acknowledge::Last))?;
        finish(n.into(), 2, n + 1)?;
        was_before_the_eoi()
    })?;
    let (with, without) = taken();
    ensure_eq!(with, count, "interrupts with a cause");
    ensure!(without <= count, "{without} interrupts without a cause in {count} rounds");
    Ok(())
}

/// The request is done while the pin is masked; the interrupt comes when it is unmasked. Level-triggered pins only: an
/// IOAPIC ignores an edge on a masked pin (82093AA, 3.2.4).
fn masked(name: &str, trigger: Trigger, count: u32) -> Outcome {
    rounds(name, count, |n| {
        let line = with_driver(|driver| driver.block.line)?;
        // An interrupt without a cause may be left of the round before: it would be taken for this round's.
        interrupts::enable();
        pause(LATE);
        apic::mask(line, true);
        let result = submit(n.into(), None).and_then(|()| {
            let done = || with_driver(|driver| driver.ring.done());
            Wait::Poll.until(DEVICE_LIMIT, || done().is_ok_and(|done| done > 0));
            // The host may raise the line some time after the request is done.
            interrupts::enable();
            pause(LATE);
            let done = done()?;
            ensure_eq!(done, 1, "round {n}: requests done with the pin masked");
            ensure_eq!(taken().0, n, "round {n}: interrupts with the pin masked");
            Ok(())
        });
        if result.is_err() {
            with_driver(Driver::recover)?;
        }
        apic::mask(line, false);
        result?;
        finish(n.into(), 1, n + 1)
    })?;
    counted(trigger, count)
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let rounds = command_line::number("rounds").and_then(|n| u32::try_from(n).ok()).unwrap_or(200);
    let trigger = match command_line::value("trigger") {
        Some("edge") => Trigger::Edge,
        _ => Trigger::Level,
    };
    let mut ready = false;
    report.run("find-a-disk", || {
        open(trigger)?;
        ready = true;
        Ok(())
    });
    if !ready {
        return report.code();
    }
    let few = rounds / 10;
    type Scenario = fn(&str, Trigger, u32) -> Outcome;
    let scenarios: [(&str, Scenario, u32); 5] = [
        ("one-a-round", one_a_round, rounds),
        ("acknowledged-before-the-second-request", acknowledged_before, few),
        ("acknowledged-after-the-second-request", acknowledged_after, few),
        ("done-with-the-pin-masked", masked, if trigger == Trigger::Level { few } else { 0 }),
        ("one-a-round-afterwards", one_a_round, rounds),
    ];
    for (name, scenario, rounds) in scenarios.into_iter().filter(|(.., rounds)| *rounds > 0) {
        report.run(name, || scenario(name, trigger, rounds));
    }
    println!("in service in the handler: {}", IN_SERVICE.load(Ordering::Acquire));
    report.code()
}
