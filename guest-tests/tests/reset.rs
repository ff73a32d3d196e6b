//! Reset and fresh handshake with requests under way: `resources/guests/test-guests/src/bin/reset`.

use std::fs;
use std::ops::RangeInclusive;

use cafevm_guest_tests::{
    Guest, Outcome, SECTOR, Scratch, difference, engine, ensure, fail, tests,
};
use cafevm_resources::test_guests::RESET;

tests! {
    after_the_doorbell, while_another_processor_rings, of_the_queue_alone, while_the_io_thread_serves,
    while_a_thread_of_the_disk_serves
}

/// Sectors that requests are about; behind them the guest puts 8 bytes for each.
const SECTORS: usize = 256;
const MODEL: usize = 8 * SECTORS;

/// Sectors that hold these words, each in all its places.
fn sectors_of(words: impl Iterator<Item = u64>) -> Vec<u8> {
    words.flat_map(|word| word.to_le_bytes().repeat(SECTOR / 8)).collect()
}

/// `missed` is the number of rounds, of 100, in which the reset came before any request was done.
fn reset(set: &str, scenario: &str, keys: &str, missed: RangeInclusive<u64>) -> Outcome {
    // What finishes later may always lose against a reset.
    let missed = if engine::is_late() { 0..=100 } else { missed };
    let scratch = Scratch::new()?;
    let mut contents = sectors_of(0..SECTORS as u64);
    contents.resize(SECTORS * SECTOR + MODEL, 0);
    let image = scratch.holding("d.img", contents)?;
    let guest = Guest::new(RESET).cmdline(&format!("t={set} rounds=100")).disk(&image, keys);
    let run = guest.with(|config| config.cpus = 2).run()?;
    run.passed(&[scenario])?;
    let told =
        run.text.lines().find_map(|line| line.strip_prefix("rounds 100: ")?.split(' ').next());
    let told: u64 = told.unwrap_or_default().parse()?;
    ensure!(missed.contains(&told), "the reset came first in {told} rounds: {run}");

    let seen = fs::read(image.path())?;
    let Some((disk, model)) = seen.split_at_checked(SECTORS * SECTOR) else {
        fail!("the image has become shorter: {} bytes", seen.len());
    };
    ensure!(model.len() == MODEL, "the image has {} bytes", seen.len());
    let words = model.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let written = words.clone().zip(0..).filter(|(word, number)| word != number).count();
    // Where two processors race, the host's load decides how many rounds the reset wins.
    let enough = if missed == (0..=0) { SECTORS / 8 } else { 0 };
    ensure!(written >= enough, "only {written} sectors were written: {run}");
    match difference(disk, &sectors_of(words)) {
        None => Ok(()),
        Some(text) => fail!("{text}: {run}"),
    }
}

const PLAIN: &str = "bus=virtio";

fn after_the_doorbell() -> Outcome {
    reset("doorbell", "reset-after-the-doorbell", PLAIN, 0..=0)
}

fn while_another_processor_rings() -> Outcome {
    reset("race", "reset-while-another-rings", PLAIN, 0..=100)
}

fn of_the_queue_alone() -> Outcome {
    reset("queue", "reset-of-the-queue", PLAIN, 0..=0)
}

fn while_the_io_thread_serves() -> Outcome {
    reset("doorbell", "reset-after-the-doorbell", "doorbell=thread", 0..=100)
}

fn while_a_thread_of_the_disk_serves() -> Outcome {
    reset("doorbell", "reset-after-the-doorbell", "doorbell=spin", 0..=100)?;
    reset("queue", "reset-of-the-queue", "doorbell=spin", 0..=100)
}
