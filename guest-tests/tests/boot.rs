//! What the loader hands over, and each way for a guest to end: `resources/guests/test-guests/src/bin/boot.rs`.

use std::fs;
use std::time::Duration;

use cafevm::exit::Verdict;
use cafevm::layout::{GIB, MIB};
use cafevm::x86::crash::Cause;
use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure, fail, tests};
use cafevm_resources::test_guests::BOOT;

tests! {
    info_with_16_mib,
    info_with_128_mib,
    info_with_5_gib,
    no_initrd_and_no_words,
    exit_codes,
    reset,
    triple_fault,
    memory_it_does_not_map,
    exception,
    panic,
    hang_and_spin_are_stopped,
    ports_that_nobody_owns,
    echo_loses_nothing,
}

fn guest(words: &str) -> Guest {
    Guest::new(BOOT).cmdline(words)
}

/// Memory, initrd and command line as the guest finds them; `ram` is the RAM above 1 MiB, (address, bytes) each.
fn info(memory: u64, ram: &[(u64, u64)]) -> Outcome {
    const WORDS: &str = "t=info  quoted=\"two  words\" last";
    let scratch = Scratch::new()?;
    let disk = scratch.image("d.img", SECTOR)?;
    let initrd = scratch.path("initrd");
    // Neither a page nor a word.
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(10_001).collect();
    fs::write(&initrd, &bytes)?;
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();

    let guest = guest(WORDS).virtio(&disk).alone().with(|config| {
        config.memory = memory;
        config.initrd = Some(initrd);
    });
    let run = guest.run()?;
    run.passed(&["memory-map", "modules"])?;
    let mut wanted = format!(
        "command line: {WORDS} virtio_mmio.device=512@0xfeb00000:5\n\
         start information version 1\n\
         module 0: 10001 bytes, sum {sum}\n\
         memory: 0x0 0x9fc00 1\n\
         memory: 0x9fc00 0x400 2\n\
         memory: 0xe0000 0x20000 2\n"
    );
    for (address, bytes) in ram {
        wanted += &format!("memory: {address:#x} {bytes:#x} 1\n");
    }
    let bytes = 0x9_fc00 + ram.iter().map(|(_, bytes)| bytes).sum::<u64>();
    wanted += &format!("ram: {bytes} bytes\nok memory-map\nok modules\n");
    ensure!(run.text == wanted, "it must print:\n{wanted}\n{run}");
    disk.is_untouched()
}

fn info_with_16_mib() -> Outcome {
    info(16 * MIB, &[(MIB, 15 * MIB)])
}

fn info_with_128_mib() -> Outcome {
    info(128 * MIB, &[(MIB, 127 * MIB)])
}

fn info_with_5_gib() -> Outcome {
    info(5 * GIB, &[(MIB, 3 * GIB - MIB), (4 * GIB, 2 * GIB)])
}

fn no_initrd_and_no_words() -> Outcome {
    let run = Guest::new(BOOT).alone().run()?;
    run.passed(&["memory-map", "modules"])?;
    ensure!(run.text.starts_with("command line: \nstart information version 1\nmemory: "), "{run}");
    Ok(())
}

fn exit_codes() -> Outcome {
    for (how, code, status) in [
        ("exit", 0, 1),
        ("exit", 1, 3),
        ("exit", 0x2a, 85),
        ("exit", 0x7f, 255),
        ("exit", 0x8000_0001, 3),
        ("exit8", 0, 1),
        ("exit8", 0xff, 255),
    ] {
        let run = guest(&format!("t={how} code={code}")).run()?;
        run.ended(code)?;
        ensure!(run.text.is_empty(), "it must print nothing: {run}");
        let seen = run.verdict.status();
        ensure!(seen == status, "code {code:#x} by {how} gave status {seen}, not {status}");
        // One write to port 0xf4 ends it: no vCPU runs on behind it.
        ensure!(run.exits.other + run.exits.mmio_read + run.exits.mmio_write == 0, "{run}");
    }
    Ok(())
}

fn reset() -> Outcome {
    let run = guest("t=reset").run()?;
    ensure!(run.verdict == Verdict::Reset && run.verdict.status() == 0, "{run}");
    Ok(())
}

fn triple_fault() -> Outcome {
    let run = guest("t=triple-fault").run()?;
    let Verdict::Crash(crash) = &run.verdict else { fail!("it did not crash: {run}") };
    ensure!(crash.cpu == 0 && crash.cause == Cause::TripleFault, "{run}");
    ensure!(run.verdict.status() == 6, "{run}");
    for register in ["rip", "rsp", "cr2", "efer", "gdt"] {
        ensure!(crash.registers.contains(register), "no {register} in the report: {run}");
    }
    Ok(())
}

/// A kernel whose page tables end at 4 GiB meets RAM behind that, or nothing.
fn memory_it_does_not_map() -> Outcome {
    for (memory, told) in [(5 * GIB, true), (128 * MIB, false)] {
        let run = guest("t=beyond").with(|config| config.memory = memory).run()?;
        let Verdict::Crash(crash) = &run.verdict else { fail!("it did not crash: {run}") };
        ensure!(crash.cause == Cause::TripleFault, "{run}");
        // There is a processor (AMD's) on which nothing is known of it any more.
        if !crash.registers.contains("forgets the registers") {
            ensure!(crash.registers.contains("cr2 0000000100000000"), "{run}");
            ensure!(crash.registers.contains("less memory than it gets") == told, "{run}");
        }
    }
    Ok(())
}

fn exception() -> Outcome {
    let run = guest("t=exception").run()?;
    run.ended(0x3e)?;
    let says = "guest exception: page fault (vector 14), error code 0x0, rip 0x2";
    let first = run.text.lines().next().unwrap_or_default();
    ensure!(first.starts_with(says) && first.ends_with(", cr2 0x100000000"), "{run}");
    Ok(())
}

fn panic() -> Outcome {
    let run = guest("t=panic").run()?;
    run.ended(0x3f)?;
    ensure!(
        run.text.starts_with("guest panicked at ") && run.text.ends_with("as requested\n"),
        "{run}"
    );
    Ok(())
}

fn hang_and_spin_are_stopped() -> Outcome {
    for (how, says) in [("hang", "hanging\n"), ("spin", "spinning\n")] {
        for cpus in [1, 2] {
            let guest = guest(&format!("t={how}")).with(|config| {
                // Enough to get there; what follows would take for ever.
                config.timeout = Some(Duration::from_secs(1));
                config.cpus = cpus;
            });
            let run = guest.run()?;
            ensure!(run.verdict == Verdict::TimedOut && run.verdict.status() == 124, "{run}");
            ensure!(run.text == says, "{run}");
        }
    }
    Ok(())
}

fn ports_that_nobody_owns() -> Outcome {
    guest("t=ports").run()?.passed(&["ports"])
}

fn echo_loses_nothing() -> Outcome {
    // Every byte there is, and no two stretches alike: what is lost, doubled or moved shows.
    let mut input: Vec<u8> =
        (0u32..10 * 1024).map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()[3]).collect();
    input.extend(b"\nend\n");
    let run = guest("t=echo").input(input.clone()).run()?;
    run.passed(&["echo"])?;
    let wanted = [
        b"echo ready\r\n".as_slice(),
        &input,
        format!("\r\nechoed {} bytes\r\nok echo\r\n", input.len()).as_bytes(),
    ]
    .concat();
    let differs = run.bytes.iter().zip(&wanted).position(|(a, b)| a != b);
    ensure!(
        run.bytes == wanted,
        "{} bytes came back, not {}; the first that differs is {differs:?}",
        run.bytes.len(),
        wanted.len()
    );
    Ok(())
}
