//! What a vCPU gets done while reads are out that the host has not cached.
//!
//! `cargo bench -p cafevm-guest-tests --bench cold [-- IMAGE]`. The guest is
//! `resources/guests/test-guests/src/bin/cold.rs`: it counts from each doorbell to its answer, and compares that with
//! what it counts without a request. Without IMAGE, a delay of 2 ms is injected below the engine. With IMAGE, the guest
//! reads from it by each engine, after dd(1) has dropped the host's cache of it: an image on slow storage shows the
//! engines themselves. The reads are so far apart that the host does not read ahead for the next one.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use cafevm::cli::spec;
use cafevm::config::WrapStorage;
use cafevm_devices::testing::{LateStorage, SlowStorage};
use cafevm_guest_tests::{Failed, Guest, Scratch, bench, ensure};
use cafevm_resources::test_guests::COLD;

const DELAY: Duration = Duration::from_millis(2);
const READS: usize = 50;
/// From one read of an image to the next, in bytes.
const APART: usize = 1 << 20;

fn main() -> ExitCode {
    bench::main(bench)
}

fn bench() -> Result<(), Failed> {
    println!("{:44} a read    the vCPU loses of it", "");
    match bench::argument() {
        Some(image) => engines(Path::new(&image)),
        None => injected(),
    }
}

fn injected() -> Result<(), Failed> {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", READS * 4096)?;
    let slow = || WrapStorage::new(|inner| Box::new(SlowStorage::new(inner, DELAY)));
    let late = || WrapStorage::new(|inner| Box::new(LateStorage::new(inner, DELAY)));
    for (name, keys, storage) in [
        ("an engine that waits, doorbell=vcpu", "doorbell=vcpu", slow()),
        ("an engine that waits, doorbell=thread", "doorbell=thread", slow()),
        ("an engine that waits, doorbell=spin", "doorbell=spin", slow()),
        ("an engine that finishes later, doorbell=vcpu", "doorbell=vcpu", late()),
    ] {
        show(name, guest().disk(&image, keys).storage(storage))?;
    }
    Ok(())
}

fn engines(image: &Path) -> Result<(), Failed> {
    for keys in ["engine=sync", "engine=sync,doorbell=thread", "engine=auto", "engine=uring"] {
        drop_cache(image)?;
        let path = image.display().to_string().replace(',', ",,");
        let disk = spec::parse(format!("path={path},readonly=on,{keys}"))?;
        let guest = Guest::new(COLD).cmdline(&format!("reads={READS} apart={APART}"));
        show(keys, guest.with(|config| config.disks.push(disk)))?;
    }
    Ok(())
}

/// Makes the host forget what it has cached of the file.
fn drop_cache(image: &Path) -> Result<(), Failed> {
    let dropped = Command::new("dd")
        .arg(format!("if={}", image.display()))
        .args(["iflag=nocache", "count=0", "status=none"])
        .status()?;
    ensure!(dropped.success(), "dd failed: {dropped}");
    Ok(())
}

fn guest() -> Guest {
    Guest::new(COLD).cmdline(&format!("reads={READS}"))
}

/// Runs the guest, and prints a line of the table.
fn show(name: &str, guest: Guest) -> Result<(), Failed> {
    let start = Instant::now();
    let run = guest.run()?;
    run.passed(&["cold"])?;
    let seconds = start.elapsed().as_secs_f64();
    let numbers = |start: &str| -> Result<(f64, f64), Failed> {
        let line = run.text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
        let words: Vec<&str> = line.split(' ').collect();
        let at = |n: usize| words.get(n).copied().unwrap_or_default().parse::<f64>();
        Ok((at(0)?, at(2)?))
    };
    let ((alone, alone_in), (counted, counted_in)) = (numbers("alone ")?, numbers("reads ")?);
    let kept = counted / counted_in * alone_in / alone;
    // The counting alone and the reads are nearly all of the run.
    let of_reads = seconds * counted_in / (alone_in + counted_in) / READS as f64;
    println!("{name:44} {:5.1} ms  {:3.0} %", of_reads * 1e3, 100.0 * (1.0 - kept));
    Ok(())
}
