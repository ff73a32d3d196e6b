//! Requests of all kinds, sizes and splits against a model of the disk: `resources/guests/test-guests/src/bin/mixed`.
//!
//! 10,000 in all; with `CAFEVM_MIXED=N` N times as many, and others: the seeds count on from N.

use std::fs;
use std::path::Path;

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

/// Sectors that requests are about; behind them the guest puts its model, 4 bytes a sector.
const SECTORS: usize = 1024;
const MODEL: usize = 4 * SECTORS;
/// The state of a sector in the model, if it is not an offset in the stock.
const ZEROS: u32 = u32::MAX;
const ANYTHING: u32 = u32::MAX - 1;

/// Random bytes, from which all that is written is taken.
fn stock() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    words.take(8 * 1024).flat_map(u64::to_le_bytes).collect()
}

/// Runs this many requests with these words. Returns its output, after a check of its disk against the model.
fn mixed(seed: u64, requests: u64, words: &str, keys: &str, cpus: u32) -> Result<Run, Failed> {
    mixed_in(&Scratch::new()?, seed, requests, words, keys, cpus)
}

fn mixed_in(
    scratch: &Scratch,
    seed: u64,
    requests: u64,
    words: &str,
    keys: &str,
    cpus: u32,
) -> Result<Run, Failed> {
    let times = std::env::var("CAFEVM_MIXED").map_or(Ok(1), |text| text.parse::<u64>())?;
    let words = format!("seed={} requests={} {words}", seed + times - 1, requests * times);
    let stock = stock();
    let initrd = scratch.path("stock");
    fs::write(&initrd, &stock)?;
    let sector = |from: usize| &stock[from..from + SECTOR];
    let mut contents = Vec::new();
    for n in 0..SECTORS {
        contents.extend_from_slice(sector(61 * n % (stock.len() - SECTOR)));
    }
    contents.resize(SECTORS * SECTOR + MODEL, 0x77);
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
    let Some(model) = seen.get(SECTORS * SECTOR..SECTORS * SECTOR + MODEL) else {
        fail!("the image has become shorter: {} bytes", seen.len());
    };
    let mut wanted = Vec::new();
    let mut written = 0;
    for (n, entry) in model.as_chunks::<4>().0.iter().enumerate() {
        let at = n * SECTOR..(n + 1) * SECTOR;
        match u32::from_le_bytes(*entry) {
            ZEROS => wanted.resize(at.end, 0),
            ANYTHING => wanted.extend_from_slice(&seen[at]),
            from => {
                let from = usize::try_from(from)?;
                ensure!(
                    from + SECTOR <= stock.len(),
                    "the model has {from:#x} for sector {n}: {run}"
                );
                written += usize::from(from != 61 * n % (stock.len() - SECTOR));
                wanted.extend_from_slice(sector(from));
            }
        }
    }
    ensure!(written > SECTORS / 16, "only {written} sectors hold anything new: {run}");
    wanted.extend_from_slice(model);
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
    let run = mixed(1, 4000, "poll=1", "queues=1", 1)?;
    let line = run.text.lines().find(|line| line.starts_with("requests "));
    let told = line.map(numbers).unwrap_or_default();
    // Of each kind there were some, and all together are as many as were asked for.
    let enough =
        matches!(told[..], [all, ..] if all >= 4000 && told.iter().sum::<u64>() == 2 * all);
    ensure!(enough && told.len() == 7 && told.iter().all(|count| *count >= 40), "{run}");
    Ok(())
}

fn indirect_and_by_index() -> Outcome {
    interrupts(&mixed(200, 2000, "indirect=1 events=1", "queue-size=1024", 1)?)
}

fn two_queues_on_two_processors() -> Outcome {
    interrupts(&mixed(300, 2000, "cpus=2", "queues=2", 2)?)
}

fn two_queues_indirect_and_by_index() -> Outcome {
    mixed(400, 1500, "cpus=2 indirect=1 events=1 poll=1", "queues=4", 2).map(drop)
}

/// The driver could flush, but has the device write through.
fn switched_to_write_through() -> Outcome {
    mixed(700, 250, "wce=0 poll=1", "block-size=512", 1).map(drop)
}

/// Without FLUSH each write is on the storage before it is answered, which takes its time.
fn written_through() -> Outcome {
    mixed(500, 250, "flush=0 poll=1", "block-size=512", 1).map(drop)
}

/// Where the guest's buffers allow it, that is: what goes past the cache and what does not must be one disk.
fn past_the_page_cache() -> Outcome {
    // Not where temporary files go: memory has no way past it.
    let scratch = Scratch::within(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    mixed_in(&scratch, 600, 250, "poll=1", "cache=none", 1).map(drop)
}
