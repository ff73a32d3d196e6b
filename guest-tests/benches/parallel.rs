//! How far two vCPUs get at once, and what an interrupt acknowledge costs while a queue of the same device is served.
//!
//! `cargo bench -p cafevm-guest-tests --bench parallel [-- ROUNDS]`, 5 rounds by default. The guest is
//! `resources/guests/test-guests/src/bin/parallel/main.rs`. It reads 4 KiB at a time, 64 reads a doorbell, from an
//! image in the page cache.
//!
//! The modes take turns within a round, so that a busy host slows all of them. `2 machines` are two processes of one
//! vCPU and one disk each, at the same time: what this host has to give to two vCPUs that share nothing.
//!
//! Each run takes the time of 50 slices of some milliseconds, which both vCPUs begin together. The best slice is what a
//! quiet host shows; where the medians are far from it, other work disturbed the run. The series `no request in the
//! device` is what the host itself adds to a register write: the others cannot be better.
//!
//! On a host with other work, root can put that aside: `chrt -r 1` before the command runs it in real time. The threads
//! of a machine then have to share the processors in turns of 100 ms, so that a request that a third thread finishes
//! comes late: use `nice -n -20` where the device under test has such a thread.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Guest, Image, Scratch, bench, ensure, fail};
use cafevm_resources::test_guests::PARALLEL;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
const IMAGE_BYTES: usize = 64 << 20;
/// Slices of a run, and doorbells of each vCPU in one.
const SLICES: usize = 50;
const BATCHES: usize = 20;
const MODES: [&str; 4] = ["1 vCPU", "2 queues", "2 disks", "2 machines"];
const SERIES: [(&str, &str); 3] = [
    ("idle-ack", "InterruptACK, no request in the device"),
    ("ack", "InterruptACK, queue 0 busy"),
    ("select", "QueueSel, queue 0 busy"),
];

fn main() -> ExitCode {
    bench::main(bench)
}

fn bench() -> Result<(), Failed> {
    let rounds = bench::rounds(5)?;
    let bench = Bench::new()?;
    let mut throughputs = [const { Vec::new() }; MODES.len()];
    let mut ratios = [const { Vec::new() }; MODES.len()];
    let mut series = BTreeMap::<_, Vec<Histogram>>::new();
    let mut batches = Vec::new();
    for round in 1..=rounds {
        let measured =
            [bench.one()?, bench.two_queues()?, bench.two_disks()?, bench.two_machines()?];
        print!("round {round}, thousand requests a second (best slice):");
        let one = measured.first().map_or(f64::NAN, |seen| median(seen));
        for (all, seen) in ratios.iter_mut().zip(&measured) {
            all.push(median(seen) / one);
        }
        for ((all, mode), seen) in throughputs.iter_mut().zip(MODES).zip(measured) {
            print!("  {mode} {:.0} ({:.0})", median(&seen) / 1000.0, highest(&seen) / 1000.0);
            all.extend(seen);
        }
        println!();
        let text = bench.acknowledge()?;
        batches.push(batch_us(&text)?);
        for (name, _) in SERIES {
            series.entry(name).or_default().push(Histogram::read(&text, name)?);
        }
    }

    let base = throughputs.first().map_or((0.0, 0.0), |all| (median(all), highest(all)));
    println!(
        "\nthousand requests a second   median  ratio    best  ratio  ratio within a round (median)"
    );
    for ((mode, all), ratios) in MODES.iter().zip(&throughputs).zip(&ratios) {
        let (middle, best) = (median(all), highest(all));
        println!(
            "{mode:26} {:8.1} {:6.2} {:7.1} {:6.2} {:6.2}",
            middle / 1000.0,
            middle / base.0,
            best / 1000.0,
            best / base.1,
            median(ratios)
        );
    }
    println!(
        "\na batch that keeps queue 0 busy takes {:.0} us (median of rounds)",
        median(&batches)
    );
    for (name, text) in SERIES {
        let rounds = series.remove(name).unwrap_or_default();
        let tails: Vec<f64> = rounds.iter().map(|round| round.percentile(99.9)).collect();
        let mut all = Histogram::default();
        for round in rounds {
            all.add(round);
        }
        println!("\n{text}:");
        all.print();
        let best = tails.iter().copied().fold(f64::INFINITY, f64::min);
        println!("99.9th percentile by round: median {:.1} us, best {best:.1} us", median(&tails));
    }
    Ok(())
}

/// The images, in the page cache.
struct Bench {
    first: Image,
    second: Image,
    elf: PathBuf,
    _scratch: Scratch,
}

impl Bench {
    fn new() -> Result<Self, Failed> {
        let scratch = Scratch::new()?;
        let (first, second) =
            (scratch.seeded("1.img", 1, IMAGE_BYTES)?, scratch.seeded("2.img", 2, IMAGE_BYTES)?);
        // What was just written is in the page cache; this check fails if it is not.
        first.is_untouched()?;
        second.is_untouched()?;
        let elf = scratch.path("parallel");
        fs::write(&elf, PARALLEL)?;
        Ok(Self { first, second, elf, _scratch: scratch })
    }

    fn one(&self) -> Result<Vec<f64>, Failed> {
        throughputs(&text(guest("one", 1).virtio(&self.first))?)
    }

    fn two_queues(&self) -> Result<Vec<f64>, Failed> {
        throughputs(&text(guest("queues", 2).disk(&self.first, "queues=2"))?)
    }

    fn two_disks(&self) -> Result<Vec<f64>, Failed> {
        throughputs(&text(guest("disks", 2).virtio(&self.first).virtio(&self.second))?)
    }

    fn acknowledge(&self) -> Result<String, Failed> {
        text(guest("ack", 2).virtio(&self.first))
    }

    /// Two processes that begin when both are ready. Their slices are not in step: those of the same number count as
    /// if they were, and end with the slower one.
    fn two_machines(&self) -> Result<Vec<f64>, Failed> {
        let mut machines = [self.machine(&self.first)?, self.machine(&self.second)?];
        for machine in &mut machines {
            machine.wait_for("ready\r\n")?;
        }
        for machine in &mut machines {
            machine.send(b"g")?;
        }
        let mut slower = vec![f64::INFINITY; SLICES];
        for machine in machines {
            let ended = machine.finish()?;
            let text = ended.text();
            ensure!(text.lines().any(|line| line == "ok parallel"), "{text}{}", ended.log);
            for (seen, slice) in slower.iter_mut().zip(throughputs(&text)?) {
                *seen = slice.min(*seen);
            }
        }
        Ok(slower.into_iter().map(|slice| 2.0 * slice).collect())
    }

    fn machine(&self, image: &Image) -> Result<Process, Failed> {
        let elf = self.elf.display().to_string();
        let disk = format!("path={}", image.path().display());
        let words = format!("{} wait=1", words("one"));
        let arguments = ["run", "--kernel", &elf, "--disk", &disk, "--cmdline", &words];
        Process::start(Path::new(PROGRAM), arguments)
    }
}

fn words(mode: &str) -> String {
    format!("mode={mode} slices={SLICES} batches={BATCHES}")
}

fn guest(mode: &str, cpus: u32) -> Guest {
    Guest::new(PARALLEL).cmdline(&words(mode)).with(|config| config.cpus = cpus)
}

/// The output of a guest that ran to its end.
fn text(guest: Guest) -> Result<String, Failed> {
    let run = guest.run()?;
    run.passed(&["parallel"])?;
    Ok(run.text)
}

/// Requests a second of all vCPUs, in each slice.
fn throughputs(text: &str) -> Result<Vec<f64>, Failed> {
    let cycles_per_us = cycles_per_us(text)?;
    let mut all = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("slice ")) {
        let ["slice", "requests", requests, "cycles", cycles] =
            *line.split(' ').collect::<Vec<_>>()
        else {
            fail!("a slice without its numbers: {line}")
        };
        all.push(requests.parse::<f64>()? / cycles.parse::<f64>()? * cycles_per_us * 1e6);
    }
    ensure!(all.len() == SLICES, "{} slices, not {SLICES}: {text}", all.len());
    Ok(all)
}

/// How long a batch took that kept the queue busy, in microseconds.
fn batch_us(text: &str) -> Result<f64, Failed> {
    match *numbers(text, "batches")? {
        [_, cycles] => Ok(cycles / cycles_per_us(text)?),
        _ => fail!("batches without their numbers: {text}"),
    }
}

fn cycles_per_us(text: &str) -> Result<f64, Failed> {
    match *numbers(text, "tsc ")? {
        [cycles] if cycles > 0.0 => Ok(cycles / 1000.0),
        _ => fail!("no rate of the time-stamp counter: {text}"),
    }
}

/// The numbers of the first line that begins with this.
fn numbers(text: &str, start: &str) -> Result<Box<[f64]>, Failed> {
    let Some(rest) = text.lines().find_map(|line| line.strip_prefix(start)) else {
        fail!("the guest did not say '{start}': {text}")
    };
    Ok(rest.split(' ').filter_map(|word| word.parse().ok()).collect())
}

/// The lower bounds of buckets in cycles, each with its count; and what was longest.
#[derive(Default)]
struct Histogram {
    buckets: BTreeMap<u64, u64>,
    longest: f64,
    cycles_per_us: f64,
}

impl Histogram {
    fn read(text: &str, name: &str) -> Result<Self, Failed> {
        let [samples, longest] = *numbers(text, &format!("series {name} "))? else {
            fail!("a series without its numbers: {text}")
        };
        let start = format!("bucket {name} ");
        let mut buckets = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(&start)) {
            let Some((from, count)) = line.split_once(' ') else { fail!("no bucket: {line}") };
            buckets.insert(from.parse()?, count.parse()?);
        }
        let histogram = Self { buckets, longest, cycles_per_us: cycles_per_us(text)? };
        ensure!(histogram.samples() as f64 == samples, "not all samples are in buckets: {text}");
        Ok(histogram)
    }

    fn samples(&self) -> u64 {
        self.buckets.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (from, count) in other.buckets {
            *self.buckets.entry(from).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
        self.cycles_per_us = other.cycles_per_us;
    }

    /// The microseconds that so many percent of the samples took at the most: the upper bound of a bucket, an eighth too
    /// much at the worst.
    fn percentile(&self, percent: f64) -> f64 {
        let wanted = self.samples() as f64 * percent / 100.0;
        let mut below = 0;
        for (&from, count) in &self.buckets {
            below += count;
            if below as f64 >= wanted {
                // As the guest makes them: eight buckets for each power of two.
                let width = (from / 8).checked_ilog2().map_or(1, |bits| 1_u64 << bits);
                return ((from + width) as f64).min(self.longest) / self.cycles_per_us;
            }
        }
        self.longest / self.cycles_per_us
    }

    /// A line for each power of two, then the percentiles.
    fn print(&self) {
        let mut rows = BTreeMap::<_, u64>::new();
        for (&from, count) in &self.buckets {
            *rows.entry(from.checked_ilog2().unwrap_or(0)).or_default() += count;
        }
        let samples = self.samples();
        for (bits, count) in rows {
            let us = |bits| (1_u64 << bits) as f64 / self.cycles_per_us;
            let share = 100.0 * count as f64 / samples as f64;
            println!("{:10.1} to {:9.1} us {count:8} {share:7.3} %", us(bits), us(bits + 1));
        }
        let [middle, high, tail] = [50.0, 99.0, 99.9].map(|percent| self.percentile(percent));
        let limit = (100.0 * self.cycles_per_us).round();
        let late: u64 =
            self.buckets.iter().filter(|(from, _)| **from as f64 >= limit).map(|(_, n)| n).sum();
        println!(
            "{late} of {samples} took 100 us or more: {:.3} %",
            100.0 * late as f64 / samples as f64
        );
        println!(
            "{samples} writes: median {middle:.1} us, 99th percentile {high:.1} us, 99.9th {tail:.1} us, longest {:.1} us",
            self.longest / self.cycles_per_us
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
