//! Requests of all kinds, sizes and splits against a model of the disk: `resources/guests/test-guests/src/bin/mixed`.
//!
//! 10,000 in all; with `CAFEVM_MIXED=N` N times as many, and others: the seeds count on from N.

use std::fs;
use std::path::Path;

use cafevm_guest_tests::mixed::{self, Holds, MODEL, SECTORS};
use cafevm_guest_tests::{
    Failed, Guest, Outcome, Run, SECTOR, Scratch, difference, engine, ensure, fail, tests,
};
use cafevm_resources::test_guests::MIXED;

tests! {
    polled,
    indirect_and_by_index,
    two_queues_on_two_processors,
    two_queues_indirect_and_by_index,
    written_through,
    switched_to_write_through,
    past_the_page_cache,
}

/// Runs this many requests with these words. Returns its output, after a check of its disk against the model.
fn run(seed: u64, requests: u64, words: &str, keys: &str, cpus: u32) -> Result<Run, Failed> {
    run_in(&Scratch::new()?, seed, requests, words, keys, cpus)
}

fn run_in(
    scratch: &Scratch,
    seed: u64,
    requests: u64,
    words: &str,
    keys: &str,
    cpus: u32,
) -> Result<Run, Failed> {
    let times = std::env::var("CAFEVM_MIXED").map_or(Ok(1), |text| text.parse::<u64>())?;
    let words = format!("seed={} requests={} {words}", seed + times - 1, requests * times);
    let stock = mixed::stock();
    let initrd = scratch.path("stock");
    fs::write(&initrd, &stock)?;
    let mut contents = mixed::disk(&stock);
    // Bytes after the last whole sector are not part of the disk.
    contents.extend([0x99; 100]);
    let image = scratch.holding("d.img", contents)?;

    let guest = Guest::new(MIXED).cmdline(&words).disk(&image, &format!("id=mixed,{keys}"));
    let run = guest.with(|config| {
        config.initrd = Some(initrd);
        config.cpus = cpus;
    });
    let run = run.run()?;
    run.passed(&["mixed"])?;

    let seen = fs::read(image.path())?;
    let Some(model) = mixed::model(&seen) else {
        fail!("the image has become shorter: {} bytes", seen.len());
    };
    let mut wanted = Vec::new();
    let mut written = 0;
    for (n, holds) in model.enumerate() {
        let at = n * SECTOR..(n + 1) * SECTOR;
        match holds {
            Holds::Zeros => wanted.resize(at.end, 0),
            Holds::Anything => wanted.extend_from_slice(&seen[at]),
            Holds::Stock(from) => {
                ensure!(
                    from + SECTOR <= stock.len(),
                    "the model has {from:#x} for sector {n}: {run}"
                );
                written += usize::from(from != mixed::at_first(n, stock.len()));
                wanted.extend_from_slice(&stock[from..from + SECTOR]);
            }
        }
    }
    ensure!(written > SECTORS / 16, "only {written} sectors hold anything new: {run}");
    wanted.extend_from_slice(&seen[SECTORS * SECTOR..SECTORS * SECTOR + MODEL]);
    wanted.extend([0x99; 100]);
    match difference(&seen, &wanted) {
        None => Ok(run),
        Some(text) => fail!("{words}: {text}: {run}"),
    }
}

/// The numbers in a line of text.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// Fails unless there was an interrupt, and not more than one a batch, which is finished in its doorbell.
fn interrupts(run: &Run) -> Outcome {
    let most = |batches: u64| if engine::is_late() { u64::MAX } else { batches };
    let line = run.text.lines().find(|line| line.starts_with("batches "));
    let told = line.map(numbers).unwrap_or_default();
    ensure!(
        matches!(told[..], [batches, interrupts] if (1..=most(batches)).contains(&interrupts)),
        "{run}"
    );
    Ok(())
}

fn polled() -> Outcome {
    let run = run(1, 4000, "poll=1", "queues=1", 1)?;
    let line = run.text.lines().find(|line| line.starts_with("requests "));
    let told = line.map(numbers).unwrap_or_default();
    // Of each kind there were some, and all together are as many as were asked for.
    let enough =
        matches!(told[..], [all, ..] if all >= 4000 && told.iter().sum::<u64>() == 2 * all);
    ensure!(enough && told.len() == 7 && told.iter().all(|count| *count >= 40), "{run}");
    Ok(())
}

fn indirect_and_by_index() -> Outcome {
    interrupts(&run(200, 2000, "indirect=1 events=1", "queue-size=1024", 1)?)
}

fn two_queues_on_two_processors() -> Outcome {
    interrupts(&run(300, 2000, "cpus=2", "queues=2", 2)?)
}

fn two_queues_indirect_and_by_index() -> Outcome {
    run(400, 1500, "cpus=2 indirect=1 events=1 poll=1", "queues=4", 2).map(drop)
}

/// The driver could flush, but has the device write through.
fn switched_to_write_through() -> Outcome {
    run(700, 250, "wce=0 poll=1", "block-size=512", 1).map(drop)
}

/// Without FLUSH each write is on the storage before it is answered, which takes its time.
fn written_through() -> Outcome {
    run(500, 250, "flush=0 poll=1", "block-size=512", 1).map(drop)
}

/// Where the guest's buffers allow it, that is: what goes past the cache and what does not must be one disk.
fn past_the_page_cache() -> Outcome {
    // Not where temporary files go: memory has no way past it.
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    run_in(&scratch, 600, 250, "poll=1", "cache=none", 1).map(drop)
}
