//! The zoo: drivers with one mistake each, and what `--doctor` finds.
//!
//! Each driver is that of `cafevm new` with one change (`mistakes.rs`, `svirtb_mistakes.rs`), built with gcc and run as a user runs it. The
//! unchanged drivers must have no finding.

mod genuine;
mod interrupts;
mod mistakes;
mod qemu;
mod svirtb_mistakes;

use std::path::Path;
use std::process::{Command, Output};

use cafevm_guest_tests::{Failed, Outcome, Scratch, ensure, tests};
use genuine::{genuine_drivers_have_only_true_findings, the_built_in_guest_makes_no_mistake};
use mistakes::{Mistake, VIRTIO};
use svirtb_mistakes::SVIRTB;

tests! { needs ["gcc", "make"];
    correct_drivers_have_no_finding,
    genuine_drivers_have_only_true_findings,
    the_built_in_guest_makes_no_mistake,
    each_mistake_in_virtio_is_found,
    each_mistake_in_svirtb_is_found,
    each_mistake_with_interrupts_is_found,
    a_triple_fault_names_the_interrupt_without_a_handler,
    a_denied_finding_is_an_exit_status,
    a_guest_that_is_stopped_is_explained,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");

/// The kernel of `cafevm new`, with at most one mistake.
struct Kernel {
    scratch: Scratch,
    bus: &'static str,
}

impl Kernel {
    /// `bus` is "virtio", "svirtb", or "interrupts" for a virtio driver that sleeps.
    fn new(bus: &'static str, mistake: Option<&Mistake>) -> Result<Self, Failed> {
        let scratch = Scratch::new()?;
        let dir = scratch.path("k");
        let new = Command::new(PROGRAM).arg("new").arg(&dir).output()?;
        ensure!(new.status.success(), "cafevm new: {new:?}");
        let sleeps = bus == "interrupts";
        let bus = if sleeps { "virtio" } else { bus };
        let file = dir.join(format!("{bus}.c"));
        let mut text = std::fs::read_to_string(&file)?;
        if sleeps {
            for (polls, sleeps) in interrupts::SLEEPS {
                ensure!(text.matches(polls).count() == 1, "{polls:?} is not once in virtio.c");
                text = text.replacen(polls, sleeps, 1);
            }
            // One file, so that a mistake may be in either part.
            text += interrupts::SOURCE;
        }
        if let Some(Mistake { name, right, wrong, .. }) = mistake {
            ensure!(text.matches(right).count() == 1, "{name}: {right:?} is not once in {bus}.c");
            text = text.replacen(right, wrong, 1);
        }
        std::fs::write(file, text)?;
        let mut make = Command::new("make");
        make.env_remove("MAKEFLAGS").env_remove("CFLAGS").env_remove("LDFLAGS");
        let built = make.current_dir(&dir).args(["--silent", "kernel.elf", "disk.img"]).output()?;
        ensure!(built.status.success(), "make: {}", String::from_utf8_lossy(&built.stderr));
        Ok(Self { scratch, bus })
    }

    /// Runs it with the doctor and these flags, for a second at most.
    fn run(&self, flags: &[&str]) -> Result<Output, Failed> {
        let dir = self.scratch.path("k");
        let mut cafevm = Command::new(PROGRAM);
        cafevm.current_dir(&dir).args(["run", "kernel.elf", "--timeout", "1", "--stall", "0.2"]);
        cafevm.args(["--disk", &format!("path=disk.img,bus={}", self.bus)]).args(flags);
        Ok(cafevm.output()?)
    }

    /// The ids of the findings, in their order, and the log.
    fn findings(&self) -> Result<(Vec<String>, String), Failed> {
        let ended = self.run(&["--doctor-json", "found.json"])?;
        let json = std::fs::read_to_string(self.scratch.path("k").join("found.json"))?;
        // The first line names the format, the last one is the summary.
        let lines: Vec<_> = json.lines().collect();
        ensure!(lines.len() >= 2 && lines[0].starts_with("{\"cafevm_doctor\":"), "{json}");
        let id = |line: &&str| line.split("\"id\":\"").nth(1)?.split('"').next().map(str::to_owned);
        let ids = lines[1..lines.len() - 1].iter().filter_map(id).collect();
        Ok((ids, String::from_utf8_lossy(&ended.stderr).into_owned()))
    }
}

fn correct_drivers_have_no_finding() -> Outcome {
    for bus in ["virtio", "svirtb", "interrupts"] {
        let (ids, log) = Kernel::new(bus, None)?.findings()?;
        // Nothing else: no crash, and no time limit.
        ensure!(ids.is_empty() && log == "cafevm: doctor: no finding\n", "{bus}: {ids:?}\n{log}");
    }
    Ok(())
}

fn each_mistake_in_virtio_is_found() -> Outcome {
    all_are_found("virtio", VIRTIO)
}

fn each_mistake_in_svirtb_is_found() -> Outcome {
    all_are_found("svirtb", SVIRTB)
}

fn each_mistake_with_interrupts_is_found() -> Outcome {
    all_are_found("interrupts", interrupts::MISTAKES)
}

fn a_triple_fault_names_the_interrupt_without_a_handler() -> Outcome {
    for (mistake, hint) in interrupts::FATAL {
        let ended = Kernel::new("interrupts", Some(mistake))?.run(&[])?;
        let log = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.code() == Some(6) && log.contains(hint), "{}: {log}", mistake.name);
    }
    Ok(())
}

fn all_are_found(bus: &'static str, mistakes: &[Mistake]) -> Outcome {
    let (mut wrong, mut words, mut others) = (Vec::new(), String::new(), String::new());
    for mistake in mistakes {
        let kernel = Kernel::new(bus, Some(mistake))?;
        let (ids, log) = kernel.findings()?;
        if bus == "virtio" && qemu::is_wanted() {
            let said = qemu::run(&kernel.scratch.path("k"))?;
            others += &format!("{}\t{said}\n", mistake.name);
        }
        // The first finding decides: it is what an author reads first.
        if mistake.finds.is_empty()
            || !ids.starts_with(&mistake.finds.iter().map(|&id| id.to_owned()).collect::<Vec<_>>())
        {
            wrong.push(format!("{}: {ids:?} instead of {:?}\n{log}", mistake.name, mistake.finds));
        }
        words += &format!("{bus}: {}\n{log}\n", mistake.name);
    }
    // For docs/doctor.md.
    let results = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(results.join(format!("zoo-{bus}.txt")), words)?;
    if !others.is_empty() {
        std::fs::write(results.join(format!("zoo-qemu-{bus}.txt")), others)?;
    }
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), mistakes.len(), wrong.join("\n"));
    Ok(())
}

fn a_denied_finding_is_an_exit_status() -> Outcome {
    let good = Kernel::new("virtio", None)?.run(&["--doctor=deny"])?;
    ensure!(good.status.code() == Some(0), "{good:?}");
    let bad = VIRTIO.iter().find(|mistake| mistake.name == "VERSION_1 is not accepted");
    let bad = Kernel::new("virtio", bad)?;
    ensure!(bad.run(&["--doctor"])?.status.code() == Some(0), "a warning alone is no failure");
    let denied = bad.run(&["--doctor=deny"])?;
    let log = String::from_utf8_lossy(&denied.stderr);
    ensure!(denied.status.code() == Some(8), "{denied:?}");
    // The place is in the driver's own source.
    ensure!(
        log.contains("warning virtio.version-1: virtio0: ") && log.contains("(virtio.c:"),
        "{log}"
    );
    // Without the doctor, a line at the end names what was found.
    let log = bad.run(&[])?.stderr;
    let log = String::from_utf8_lossy(&log);
    ensure!(
        log.ends_with(
            "mistakes were found: virtio.version-1; see 'cafevm explain ID', or run with --doctor\n"
        ),
        "{log}"
    );
    Ok(())
}

fn a_guest_that_is_stopped_is_explained() -> Outcome {
    let quiet = VIRTIO.iter().find(|mistake| mistake.name == "no doorbell");
    let ended = Kernel::new("virtio", quiet)?.run(&[])?;
    let log = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(124), "{ended:?}");
    ensure!(
        log.contains("what the guest waited for:\n  virtio0: queue 0: the available index at 0x"),
        "{log}"
    );
    ensure!(
        log.contains("1 wait for a doorbell (write 0 to QueueNotify)\n  vCPU 0 runs at rip 0x"),
        "{log}"
    );
    // In transfer itself, or in one of the functions that are inlined into it: read32, pause_cpu.
    ensure!(log.contains(" transfer (virtio.c:"), "{log}");
    Ok(())
}
