//! What svirtb costs beside virtio: 128 reads of a sector a doorbell, in a row on the disk and apart.
//!
//! `cargo bench -p cafevm-guest-tests --bench batches [-- ROUNDS]`, 9 rounds by default. The guest is
//! `resources/guests/test-guests/src/bin/batches.rs`; each round runs all four series in one machine.

use std::process::ExitCode;

use cafevm_guest_tests::{Failed, Guest, SECTOR, Scratch, bench};
use cafevm_resources::test_guests::BATCHES;

const DOORBELLS: usize = 400;
const ORDERS: [&str; 2] = ["in-a-row", "apart"];

fn main() -> ExitCode {
    bench::main(bench)
}

fn bench() -> Result<(), Failed> {
    let rounds = bench::rounds(9)?;
    let mut ratios = [const { Vec::new() }; ORDERS.len()];
    for round in 1..=rounds {
        let scratch = Scratch::new()?;
        let (first, second) =
            (scratch.image("v.img", 512 * SECTOR)?, scratch.image("s.img", 512 * SECTOR)?);
        let words = format!("doorbells={DOORBELLS}");
        let run = Guest::new(BATCHES).cmdline(&words).virtio(&first).svirtb(&second).run()?;
        run.passed(&["over-svirtb", "over-virtio"])?;
        print!("round {round}, cycles a doorbell, svirtb / virtio:");
        for (order, ratios) in ORDERS.iter().zip(&mut ratios) {
            let cycles = |bus: &str| -> Result<f64, Failed> {
                let start = format!("{bus} {order} ");
                let line = run.text.lines().find_map(|line| line.strip_prefix(&start));
                Ok(line.unwrap_or_default().parse::<f64>()? / DOORBELLS as f64)
            };
            let (svirtb, virtio) = (cycles("svirtb")?, cycles("virtio")?);
            print!("  {order} {svirtb:.0} / {virtio:.0}");
            ratios.push(svirtb / virtio);
        }
        println!();
    }
    for (order, mut ratios) in ORDERS.iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
        println!("{order}: svirtb takes {median:.2} of virtio's time (median of the rounds)");
    }
    Ok(())
}
