//! Interrupts by index (EVENT_IDX) and without: none lost, none doubled, none that was not asked for; with the ring
//! full and not, and until its indices, of 65536 values, have gone around.
//!
//! The disk is the first on the command line, and is only read. `rounds=N` (default 300): batches for each scenario;
//! the first goes on until the indices have gone around, but with `around=0`.
//! The guest prints `chains N, interrupts N` after that.
#![no_std]
#![no_main]

use drivers::virtio::spec::request;
use drivers::virtio::watch;
use rt::dma::Dma;
use rt::wait::{DEVICE_LIMIT, Wait, pause};
use rt::{command_line, interrupts, println};
use scenario::block::{Block, EVENT_IDX, INDIRECT_DESC};
use scenario::{DESCRIPTOR, Outcome, Piece, Random, Report, Ring, ensure, ensure_eq};

/// Chains made once, and given again and again: as many as the ring has entries, for each is one descriptor.
const CHAINS: u16 = 64;
/// As many values as an index has.
const AROUND: u32 = 1 << 16;
/// How long to wait for an interrupt that must not arrive, in milliseconds.
const LATE: u32 = 5;

rt::entry!(main);

struct Driver {
    block: Block,
    ring: Ring,
    heads: [u16; CHAINS as usize],
    /// What each chain is, and where its descriptors are: the disk's name is asked for, 4 bytes of it.
    request: ([Piece; 2], Dma),
    random: Random,
    /// Interrupts before the scenario.
    before: u32,
}

impl Driver {
    /// A device with or without EVENT_IDX, and chains to give it.
    fn start(&mut self, events: bool) -> Outcome {
        self.block.negotiate(INDIRECT_DESC | if events { EVENT_IDX } else { 0 })?;
        self.ring.clear(events);
        // The device only reads the table, so that one does for all.
        let (chain, table) = self.request;
        for head in &mut self.heads {
            *head = self.ring.indirect_chain(&chain, table);
        }
        // Only made, as yet.
        self.ring.withdraw();
        self.block.give_queue(0, &self.ring)?;
        self.block.start()?;
        self.before = self.count();
        Ok(())
    }

    fn count(&self) -> u32 {
        interrupts::count(self.block.line)
    }

    /// Hands over `chains`, and rings where the device wants that.
    fn submit(&mut self, chains: u16) {
        for n in 0..chains {
            self.ring.give(self.heads[usize::from(n)]);
        }
        if self.ring.publish() {
            self.block.notify(0);
        }
    }

    /// Waits, looking, until `chains` are done, and takes them.
    fn finish(&mut self, chains: u16) -> Outcome {
        let ring = &self.ring;
        let all = Wait::Poll.until(DEVICE_LIMIT, || ring.done() >= chains);
        ensure!(all, "{} of {chains} chains are done", ring.done());
        ensure_eq!(ring.done(), chains, "chains done");
        self.ring.pass_over(chains);
        Ok(())
    }

    /// Fails unless there were so many interrupts since the start, also if one more has some time to come.
    fn counted(&self, wanted: u32) -> Outcome {
        pause(LATE);
        ensure_eq!(self.count().wrapping_sub(self.before), wanted, "interrupts");
        Ok(())
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let rounds = command_line::number("rounds").unwrap_or(300) as u32;
    let header = Dma::new(16, 16);
    header.write(0, request::GET_ID);
    let answer = Dma::new(5, 1);
    let mut found = None;
    report.run("find-a-disk", || {
        let block = Block::first()?;
        ensure!(watch(block.line, block.window).is_some(), "no line {}", block.line);
        found = Some(block);
        Ok(())
    });
    let Some(block) = found else { return report.code() };
    let mut driver = Driver {
        block,
        ring: Ring::new(CHAINS),
        heads: [0; CHAINS as usize],
        request: ([Piece::read(header), Piece::written(answer)], Dma::new(2 * DESCRIPTOR, 16)),
        random: Random::new(7),
        before: 0,
    };
    report.run("one-where-it-was-asked-for", || {
        driver.start(true)?;
        one_each(&mut driver, rounds)
    });
    report.run("none-where-it-was-asked-for-later", || {
        driver.start(true)?;
        for _ in 0..rounds {
            let chains = driver.random.within(1, CHAINS.into()) as u16;
            // One more than will be done.
            driver.ring.interrupt_after(chains + 1);
            driver.submit(chains);
            driver.finish(chains)?;
        }
        driver.counted(0)
    });
    report.run("one-over-several-batches", || {
        driver.start(true)?;
        several(&mut driver, rounds)
    });
    report.run("one-a-doorbell-without-indices", || {
        driver.start(false)?;
        driver.ring.want_interrupts(true);
        for round in 0..rounds {
            let chains = driver.random.within(1, CHAINS.into()) as u16;
            driver.submit(chains);
            let (ring, before) = (&driver.ring, driver.before + round);
            let line = driver.block.line;
            let came = Wait::Interrupt
                .until(DEVICE_LIMIT, || interrupts::count(line) != before && ring.done() >= chains);
            ensure!(
                came,
                "no interrupt in round {round}, {} of {chains} chains are done",
                ring.done()
            );
            driver.finish(chains)?;
        }
        driver.counted(rounds)
    });
    report.run("none-without-indices-and-unwanted", || {
        driver.start(false)?;
        driver.ring.want_interrupts(false);
        for _ in 0..rounds {
            let chains = driver.random.within(1, CHAINS.into()) as u16;
            driver.submit(chains);
            driver.finish(chains)?;
        }
        driver.counted(0)
    });
    report.code()
}

/// An interrupt each round, somewhere within the batch, until the indices have gone around.
fn one_each(driver: &mut Driver, rounds: u32) -> Outcome {
    let least = if command_line::number("around") == Some(0) { 0 } else { AROUND };
    let (mut total, mut round) = (0, 0);
    while total <= least || round < rounds {
        // Often all that the ring holds, where the device has to take a breath.
        let chains = match driver.random.below(4) {
            0 => driver.random.within(1, 4) as u16,
            _ => CHAINS,
        };
        let asked = driver.random.within(1, chains.into()) as u16;
        driver.ring.interrupt_after(asked);
        driver.submit(chains);
        let (line, before) = (driver.block.line, driver.before + round);
        let came = Wait::Interrupt.until(DEVICE_LIMIT, || interrupts::count(line) != before);
        ensure!(
            came,
            "round {round}: no interrupt after chain {asked} of {chains}; used index {}",
            driver.ring.used_index()
        );
        driver.finish(chains)?;
        total += u32::from(chains);
        round += 1;
        // A second one would be seen as the next round's, and the sum would differ.
    }
    driver.counted(round)?;
    println!("chains {total}, interrupts {round}");
    Ok(())
}

/// The interrupt is asked for once, and comes with a later batch: the batches before it bring none.
fn several(driver: &mut Driver, rounds: u32) -> Outcome {
    const BATCHES: u16 = 4;
    for round in 0..rounds / u32::from(BATCHES) {
        let chains = driver.random.within(1, 8) as u16;
        driver.ring.interrupt_after(chains * BATCHES);
        for batch in 1..BATCHES {
            driver.submit(chains);
            let ring = &driver.ring;
            let done = Wait::Poll.until(DEVICE_LIMIT, || ring.done() >= chains * batch);
            ensure!(done, "round {round}: {} of {} chains are done", ring.done(), chains * batch);
        }
        ensure_eq!(driver.count() - driver.before, round, "interrupts before the last batch");
        driver.submit(chains);
        let (line, before) = (driver.block.line, driver.before + round);
        let came = Wait::Interrupt.until(DEVICE_LIMIT, || interrupts::count(line) != before);
        ensure!(came, "round {round}: no interrupt after {BATCHES} batches of {chains} chains");
        driver.finish(chains * BATCHES)?;
    }
    driver.counted(rounds / u32::from(BATCHES))
}
