//! What two vCPUs get done at once, and how long a register write takes beside a busy queue.
//!
//! `cargo bench -p cafevm-guest-tests --bench parallel [ROUNDS]` boots the guest `parallel` in each of its modes in
//! turn, ROUNDS times (default 5), on images in the page cache, and prints
//!
//! - requests a second of one vCPU on one queue, of two on two queues of one disk, and of two on two disks: medians,
//!   and their ratios to the first;
//! - how long a write of InterruptACK, and of QueueSel, takes while another vCPU keeps the device busy with batches of
//!   64 reads of 64 KiB: a histogram of all rounds, and the 99.9th percentile.
//!
//! It needs /dev/kvm and two processors that nothing else uses.

use std::collections::BTreeMap;
use std::process::ExitCode;

use cafevm_guest_tests::{Failed, Guest, Image, Scratch, ensure, fail};
use cafevm_resources::test_guests::PARALLEL;

/// What the guest reads of a disk.
const BYTES: usize = 2 * 64 * (64 << 10);
const MODES: [&str; 3] = ["one", "queues", "disks"];
/// Batches of 64 requests that each vCPU makes.
const BATCHES: u32 = 400;
/// Register writes of each kind.
const WRITES: u32 = 5000;

fn main() -> ExitCode {
    // Cargo gives flags of its own, such as --bench.
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(5);
    match bench(rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.message().unwrap_or("failed"));
            ExitCode::FAILURE
        }
    }
}

fn bench(rounds: u32) -> Result<(), Failed> {
    let (scratch, mhz) = (Scratch::new()?, mhz()?);
    let images = [scratch.image("a.img", BYTES)?, scratch.image("b.img", BYTES)?];
    let mut speeds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut times = [Times::new("ack"), Times::new("select")];
    for round in 0..rounds {
        for mode in MODES {
            let text = run(&images, mode, BATCHES)?;
            speeds.entry(mode).or_default().push(speed(&text, mhz)?);
        }
        let text = run(&images, "ack", WRITES)?;
        times.iter_mut().try_for_each(|times| times.add(&text))?;
        eprintln!("round {} of {rounds}", round + 1);
    }
    println!(
        "4 KiB reads from the page cache, 64 a doorbell, requests a second (median of {rounds}):"
    );
    let one = median(speeds.get_mut("one"));
    for (mode, what) in MODES.into_iter().zip([
        "1 vCPU, 1 queue",
        "2 vCPUs, 2 queues of a disk",
        "2 vCPUs, 2 disks",
    ]) {
        let speed = median(speeds.get_mut(mode));
        println!("  {what:28} {speed:9.0}   {:.2} of the first", speed / one);
    }
    for times in &times {
        times.print(mhz);
    }
    Ok(())
}

fn run(images: &[Image], mode: &str, rounds: u32) -> Result<String, Failed> {
    let guest = Guest::new(PARALLEL).cmdline(&format!("mode={mode} rounds={rounds}"));
    let guest = images.iter().fold(guest, |guest, image| guest.disk(image, "queues=2,readonly=on"));
    let run = guest.with(|config| config.cpus = 2).run()?;
    run.passed(&[mode])?;
    Ok(run.text)
}

/// Requests a second, from the first vCPU's begin to the last one's end.
fn speed(text: &str, mhz: f64) -> Result<f64, Failed> {
    let (mut requests, mut from, mut to) = (0.0, f64::INFINITY, 0.0_f64);
    for line in text.lines().filter(|line| line.starts_with("lane ")) {
        let words: Vec<_> = line.split(' ').collect();
        let [_, _, _, count, _, begin, _, end] = words[..] else { fail!("not a lane: {line}") };
        requests += count.parse::<f64>()?;
        from = from.min(begin.parse()?);
        to = to.max(end.parse()?);
    }
    ensure!(requests > 0.0, "no lane in {text}");
    Ok(requests / ((to - from) / mhz) * 1e6)
}

/// How long one kind of register write took.
struct Times {
    name: &'static str,
    longest: u64,
    /// How many took up to so many ticks.
    buckets: BTreeMap<u64, u64>,
}

impl Times {
    const fn new(name: &'static str) -> Self {
        Self { name, longest: 0, buckets: BTreeMap::new() }
    }

    fn add(&mut self, text: &str) -> Result<(), Failed> {
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                [name, "rounds", _, "max", ticks] if name == self.name => {
                    self.longest = self.longest.max(ticks.parse()?);
                }
                [name, ticks, count] if name == self.name => {
                    *self.buckets.entry(ticks.parse()?).or_default() += count.parse::<u64>()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn print(&self, mhz: f64) {
        let us = |ticks: u64| ticks as f64 / mhz;
        let all: u64 = self.buckets.values().sum();
        let mut seen = 0;
        let mut percentile = None;
        println!("{} writes beside a busy queue, {all} of them, up to so many us:", self.name);
        for (ticks, count) in &self.buckets {
            seen += count;
            println!("  {:10.1} {count:8}", us(*ticks));
            if percentile.is_none() && seen * 1000 >= all * 999 {
                percentile = Some(*ticks);
            }
        }
        println!(
            "  99.9th percentile: at most {:.1} us; the longest {:.1} us",
            us(percentile.unwrap_or(self.longest)),
            us(self.longest)
        );
    }
}

fn median(values: Option<&mut Vec<f64>>) -> f64 {
    let Some(values) = values else { return f64::NAN };
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How fast the time-stamp counter counts, a microsecond.
fn mhz() -> Result<f64, Failed> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu MHz"));
    let Some(value) = line.and_then(|line| line.split_once(':')) else {
        fail!("/proc/cpuinfo has no 'cpu MHz'")
    };
    Ok(value.1.trim().parse()?)
}
