//! What a request costs as a machine grows: more disks, more queues, more vCPUs, larger images, longer queues; and what
//! memory a disk takes.
//!
//! `cargo bench -p cafevm-guest-tests --bench scale [-- ROUNDS]`, 5 rounds by default. It prints a table in Markdown and
//! writes `docs/scale.svg`. The guest is `resources/guests/test-guests/src/bin/parallel/scale.rs`: reads of 4 KiB, 64 a
//! doorbell, spread over the whole image, from an image in memory (`/dev/shm`).
//!
//! The machines take turns within a round, so that a busy host slows all of them. Each measures slices of 40 ms; a round
//! counts with the median of its slices. The cost is the time of a processor: with several vCPUs it is the time of the slice
//! times the vCPUs that can run at once, by all requests of the slice.
//!
//! On a host with other work, root can put that aside: `nice -n -20` before the command.

mod plot;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use cafevm_guest_tests::process::Process;
use cafevm_guest_tests::{Failed, Scratch, bench, ensure, fail};
use cafevm_resources::test_guests::PARALLEL;

use plot::{Panel, Point};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scale.svg");
/// A file system in memory, whose files may be of 16 TiB.
const MEMORY: &str = "/dev/shm";
const SLICES: usize = 15;
const MILLIS: u64 = 40;
/// The places that the guest reads, see its `Lane`: every second of 128.
const PLACES: u64 = 128;
const BLOCK: usize = 4096;
const MIB: u64 = 1 << 20;
/// The guest's RAM: no other mapping of the process is as large.
const RAM_MIB: u64 = 52;

/// A machine and what its guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    disks: u64,
    queues: u64,
    cpus: u64,
    image: u64,
    entries: u64,
}

const USUAL: Machine = Machine { disks: 1, queues: 1, cpus: 1, image: 64 * MIB, entries: 128 };

/// What changes in a row of the table.
struct Series {
    title: &'static str,
    axis: &'static str,
    machines: Vec<(String, Machine)>,
}

fn series() -> Vec<Series> {
    let numbers = |values: &[u64], with: fn(u64) -> Machine| {
        values.iter().map(|&n| (n.to_string(), with(n))).collect()
    };
    let sizes = [(1, "1M"), (64, "64M"), (4 << 10, "4G"), (256 << 10, "256G"), (16 << 20, "16T")];
    let sizes = sizes.map(|(mib, name)| (name.to_owned(), Machine { image: mib * MIB, ..USUAL }));
    vec![
        Series {
            title: "Disks, one vCPU",
            axis: "disks",
            machines: numbers(&[1, 2, 4, 8, 12, 16, 19], |disks| Machine { disks, ..USUAL }),
        },
        Series {
            title: "Queues of a disk, one vCPU",
            axis: "queues",
            machines: numbers(&[1, 2, 4, 8, 16], |queues| Machine { queues, ..USUAL }),
        },
        Series {
            title: "vCPUs, a queue each, one disk",
            axis: "vCPUs",
            machines: numbers(&[1, 2, 4, 8], |cpus| Machine { cpus, queues: cpus, ..USUAL }),
        },
        Series { title: "Size of the image", axis: "bytes", machines: sizes.into() },
        Series {
            title: "Entries of the queue",
            axis: "entries",
            machines: numbers(&[64, 128, 256, 512, 1024], |entries| Machine { entries, ..USUAL }),
        },
    ]
}

fn main() -> ExitCode {
    bench::main(bench)
}

fn bench() -> Result<(), Failed> {
    let rounds = bench::rounds(5)?;
    let bench = Bench::new()?;
    let all = series();
    let mut costs: Vec<Vec<Vec<f64>>> =
        all.iter().map(|series| vec![Vec::new(); series.machines.len()]).collect();
    let mut memory = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (series, costs) in all.iter().zip(&mut costs) {
            for ((_, machine), costs) in series.machines.iter().zip(costs) {
                let (cost, private) = bench.run(*machine)?;
                costs.push(cost);
                if series.axis == "disks" {
                    memory.push((machine.disks, private));
                }
            }
        }
    }
    let mut panels = Vec::new();
    for (series, costs) in all.iter().zip(&costs) {
        let points: Vec<_> = series
            .machines
            .iter()
            .zip(costs)
            .map(|((name, _), costs)| Point::of(name, costs))
            .collect();
        let unit = "µs a request";
        panels.push(Panel { title: series.title, axis: series.axis, unit, points });
    }
    panels.push(Panel {
        title: "Memory, without guest RAM",
        axis: "disks",
        unit: "KiB, private",
        points: by_disks(&memory),
    });
    print_table(&panels);
    fs::write(PLOT, plot::svg(&panels)?)?;
    println!("\nThe plot is in {PLOT}");
    Ok(())
}

/// The memory for each number of disks.
fn by_disks(memory: &[(u64, f64)]) -> Vec<Point> {
    let mut numbers: Vec<_> = memory.iter().map(|(disks, _)| *disks).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let of = |disks| memory.iter().filter(move |(n, _)| *n == disks).map(|(_, kib)| *kib);
    numbers.iter().map(|&n| Point::of(&n.to_string(), &of(n).collect::<Vec<_>>())).collect()
}

fn print_table(panels: &[Panel]) {
    for Panel { title, axis, unit, points } in panels {
        let (mut head, mut rule, mut row) =
            (format!("| {axis} |"), "|---|".to_owned(), String::new());
        let _written = write!(row, "| {unit} |");
        for Point { name, middle, .. } in points {
            let digits = if *middle < 100.0 { 2 } else { 0 };
            let _written = write!(head, " {name} |");
            let _written = write!(row, " {middle:.digits$} |");
            rule.push_str("---|");
        }
        println!("\n{title}:\n\n{head}\n{rule}\n{row}");
    }
}

struct Bench {
    scratch: Scratch,
    elf: PathBuf,
    /// vCPUs that can run at once.
    cores: f64,
}

impl Bench {
    fn new() -> Result<Self, Failed> {
        let scratch = Scratch::within(Path::new(MEMORY))?;
        let elf = scratch.path("parallel");
        fs::write(&elf, PARALLEL)?;
        let cores = f64::from(u32::try_from(thread::available_parallelism()?.get())?);
        Ok(Self { scratch, elf, cores })
    }

    /// An image with data at all places that the guest reads, and holes elsewhere.
    fn image(&self, number: u64, bytes: u64) -> Result<PathBuf, Failed> {
        let path = self.scratch.path(&format!("{bytes}-{number}.img"));
        if !path.exists() {
            let file = fs::File::create(&path)?;
            file.set_len(bytes)?;
            for place in 0..PLACES {
                let at = bytes / PLACES * place;
                file.write_all_at(&[0x5a; BLOCK], at - at % 512)?;
            }
        }
        Ok(path)
    }

    /// Microseconds of a processor for a request, and the private memory beside guest RAM in KiB.
    fn run(&self, machine: Machine) -> Result<(f64, f64), Failed> {
        let Machine { disks, queues, cpus, image, entries } = machine;
        let words = format!(
            "mode=scale hold=1 slices={SLICES} ms={MILLIS} disks={disks} queues={queues} cpus={cpus} entries={entries}"
        );
        let mut arguments: Vec<String> = ["run", "--cmdline", &words, "--kernel"]
            .into_iter()
            .map(str::to_owned)
            .chain([self.elf.display().to_string()])
            .collect();
        arguments.extend(["--memory".to_owned(), format!("{RAM_MIB}M")]);
        arguments.extend(["--cpus".to_owned(), cpus.to_string()]);
        for number in 0..disks {
            let path = self.image(number, image)?.display().to_string();
            let keys = format!("queues={queues},queue-size={entries},doorbell=vcpu");
            arguments.extend(["--disk".to_owned(), format!("path={path},{keys}")]);
        }
        let mut process = Process::start(Path::new(PROGRAM), arguments.iter().map(String::as_str))?;
        process.wait_for("measured")?;
        let private = private_kib(process.id())?;
        process.send(b"x")?;
        let ended = process.finish()?;
        let text = ended.text();
        ensure!(text.lines().any(|line| line == "ok parallel"), "{text}{}", ended.log);
        let at_once = self.cores.min(cpus as f64);
        let rates = rates(&text)?;
        ensure!(rates.len() == SLICES, "{} slices: {text}", rates.len());
        Ok((at_once * 1e6 / median(&rates), private))
    }
}

/// Requests a second of all vCPUs, in each slice.
fn rates(text: &str) -> Result<Vec<f64>, Failed> {
    let tsc = text.lines().find_map(|line| line.strip_prefix("tsc "));
    let Some(tsc) = tsc else { fail!("no rate of the time-stamp counter: {text}") };
    let hertz = tsc.parse::<f64>()? * 1000.0;
    let mut rates = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("slice ")) {
        let ["slice", _, "requests", requests, "cycles", cycles] =
            *line.split(' ').collect::<Vec<_>>()
        else {
            fail!("a slice without its numbers: {line}")
        };
        rates.push(requests.parse::<f64>()? / cycles.parse::<f64>()? * hertz);
    }
    Ok(rates)
}

/// The private memory of a process without its guest's RAM.
fn private_kib(process: u32) -> Result<f64, Failed> {
    let (mut sum, mut is_ram) = (0, false);
    for line in fs::read_to_string(format!("/proc/{process}/smaps"))?.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        match key {
            "Size:" => is_ram = value.parse::<u64>()? == RAM_MIB << 10,
            "Private_Clean:" | "Private_Dirty:" if !is_ram => sum += value.parse::<u32>()?,
            _ => {}
        }
    }
    Ok(sum.into())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
