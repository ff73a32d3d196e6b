//! Drivers as real kernels have them: no finding but those that are true.

use std::process::{Command, Stdio};
use std::sync::Arc;

use cafevm_devices::doctor::Doctor;
use cafevm_devices::observe::Severity;
use cafevm_guest_tests::{Failed, Guest, Outcome, SECTOR, Scratch, ensure};
use cafevm_resources::test_guests::{KEV, RCORE, SOS, XV6};

/// The errors and warnings that the doctor finds in a guest, sorted.
fn serious(guest: Guest) -> Result<Vec<&'static str>, Failed> {
    let doctor = Arc::new(Doctor::new(|_| ()));
    let watching = doctor.clone();
    let run = guest.with(|config| {
        config.tap.attach_reporter_of_rules(watching);
    });
    let run = run.run()?;
    // A guest ends with the debug exit 0 when all its scenarios have passed.
    run.ended(0)?;
    let counts = doctor.counts();
    let counts = counts.iter().filter(|count| count.rule.severity != Severity::Note);
    let mut ids: Vec<_> = counts.map(|count| count.rule.id).collect();
    ids.dedup();
    Ok(ids)
}

pub(super) fn genuine_drivers_have_only_true_findings() -> Outcome {
    let scratch = Scratch::new()?;
    let image = |name: &str| scratch.image(name, 64 * SECTOR);
    for (name, guest, expected) in [
        ("xv6", Guest::new(XV6).virtio(&image("xv6")?), &["virtio.version-1"][..]),
        (
            "sos",
            Guest::new(SOS).virtio(&image("sos")?).virtio(&image("sos2")?),
            &["virtio.version-1"],
        ),
        // These two ask for sectors past the end of the disk.
        ("kev", Guest::new(KEV).svirtb(&image("kev")?), &["svirtb.read-past-end"]),
        (
            "rcore",
            Guest::new(RCORE).cmdline("t=rw").virtio(&image("rcore")?),
            &["virtio.blk-range", "virtio.features-ok-read"],
        ),
    ] {
        let found = serious(guest)?;
        ensure!(found == expected, "{name}: {found:?} instead of {expected:?}");
    }
    Ok(())
}

/// The built-in shell, over both buses, polling and by interrupts.
pub(super) fn the_built_in_guest_makes_no_mistake() -> Outcome {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.image("a", 64 * SECTOR)?, scratch.image("b", 64 * SECTOR)?);
    let (virtio, svirtb) =
        (format!("path={}", a.path().display()), format!("path={},bus=svirtb", b.path().display()));
    for disks in [&[&virtio][..], &[&svirtb], &[&svirtb, &virtio]] {
        for wait in ["", "wait=irq "] {
            let mut cafevm = Command::new(super::PROGRAM);
            cafevm.args(["run", "--doctor=deny", "--cmdline"]).stdin(Stdio::null());
            cafevm.arg(format!("{wait}sh=\"write 1 hi; read 1; write 2 x; read 2; exit\""));
            let ended = cafevm.args(disks.iter().flat_map(|disk| ["--disk", disk])).output()?;
            let log = String::from_utf8_lossy(&ended.stderr);
            ensure!(
                ended.status.code() == Some(0) && log.ends_with("cafevm: doctor: no finding\n"),
                "{disks:?} {wait}: {log}"
            );
        }
    }
    Ok(())
}
