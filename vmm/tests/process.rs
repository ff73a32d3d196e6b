//! The real program with real guests, as a process: how it ends, its pipes and signals, and the terminal.
//!
//! All of these tests need /dev/kvm. If it cannot be opened they are listed as ignored, unless CAFEVM_REQUIRE_KVM=1 is
//! set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and makes small numbers"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cafevm::run::signals::ignored;
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tempfile::TempDir;

#[path = "process/accesses.rs"]
mod accesses;
#[path = "process/control.rs"]
mod control;
#[path = "process/demo.rs"]
mod demo;
#[path = "process/docs.rs"]
mod docs;
#[path = "process/engines.rs"]
mod engines;
#[path = "process/guests.rs"]
mod guests;
#[path = "process/metrics.rs"]
mod metrics;
#[path = "process/readers.rs"]
mod readers;
#[path = "process/scarce.rs"]
mod scarce;
#[path = "process/snapshot.rs"]
mod snapshot;
#[path = "process/terminal.rs"]
mod terminal;
#[path = "process/trace.rs"]
mod trace;

type Test = (&'static str, fn());

/// If this is set, the program panics as cafevm would.
const PANIC: &str = "CAFEVM_TEST_PANIC";

fn main() -> ExitCode {
    if std::env::var_os(PANIC).is_some() {
        cafevm::cli::command::end_on_panic();
        let _ended = thread::spawn(|| panic!("on purpose")).join();
        return ExitCode::SUCCESS;
    }
    hear_signals();
    let required = std::env::var_os("CAFEVM_REQUIRE_KVM").is_some_and(|value| value == "1");
    let kvm = OpenOptions::new().read(true).write(true).open(cafevm::config::KVM);
    let reason = kvm.err().filter(|_| !required);
    if let Some(error) = &reason {
        println!("ignored here: /dev/kvm: {error} (CAFEVM_REQUIRE_KVM=1 makes that a failure)");
    }
    let root = control::can_mount();
    if !root {
        println!("ignored here: what needs a file system of its own (mount: run as root)");
    }
    let trial = |&(name, test): &Test, runs: bool| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_kind("kvm").with_ignored_flag(!runs)
    };
    let kvm = reason.is_none();
    let tests = [
        TESTS,
        accesses::TESTS,
        readers::TESTS,
        terminal::TESTS,
        control::TESTS,
        scarce::TESTS,
        snapshot::TESTS,
        engines::TESTS,
        metrics::TESTS,
        demo::TESTS,
        docs::TESTS,
        trace::TESTS,
    ];
    let tests = tests.into_iter().flatten();
    let mut trials: Vec<_> = tests.map(|test| trial(test, kvm)).collect();
    let root_tests =
        [control::ROOT_TESTS, scarce::ROOT_TESTS, snapshot::ROOT_TESTS].into_iter().flatten();
    trials.extend(root_tests.map(|test| trial(test, kvm && root)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const TESTS: &[Test] = &[
    ("the_guests_verdict_is_the_exit_status", the_guests_verdict_is_the_exit_status),
    ("a_crash_is_one_line_and_the_registers", a_crash_is_one_line_and_the_registers),
    ("both_entries_find_their_command_line", both_entries_find_their_command_line),
    ("fast_strings_are_on", fast_strings_are_on),
    ("a_guest_that_never_ends_is_stopped", a_guest_that_never_ends_is_stopped),
    ("signals_end_it", signals_end_it),
    ("output_that_nobody_reads_does_not_keep_it", output_that_nobody_reads_does_not_keep_it),
    ("output_that_is_closed_is_said_once", output_that_is_closed_is_said_once),
    ("input_from_a_pipe_or_a_file_is_whole", input_from_a_pipe_or_a_file_is_whole),
    ("a_console_may_be_a_file_or_nothing", a_console_may_be_a_file_or_nothing),
    ("an_image_is_locked_while_it_runs", an_image_is_locked_while_it_runs),
    ("the_machine_is_described", the_machine_is_described),
    ("too_many_vcpus_or_too_much_memory", too_many_vcpus_or_too_much_memory),
    ("a_panic_has_a_status_that_no_guest_has", a_panic_has_a_status_that_no_guest_has),
];

/// cafevm keeps ignoring signals that its parent ignores (nohup, or a shell's `&`), and would inherit that from this
/// program. A handler with no effect is not inherited.
fn hear_signals() {
    let is_ignored = ignored();
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|&s| is_ignored(s)) {
        signal_hook::flag::register(signal, Arc::default()).unwrap();
    }
}

/// The beginning of a `cafevm run` command.
fn cafevm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
    command.arg("run").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A directory with one guest, and the path of the guest.
fn guest(elf: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest.elf");
    fs::write(&path, elf).unwrap();
    (dir, path)
}

/// The result of a run: status, output and errors.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

fn finish(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), None, "killed by a signal");
    Ended {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn run(elf: &[u8], args: &[&str]) -> Ended {
    let (_dir, path) = guest(elf);
    finish(cafevm().args(["--timeout", "60", "--kernel"]).arg(path).args(args).spawn().unwrap())
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Waits for the child, with a limit.
fn wait_within(child: &mut Child, limit: Duration) -> i32 {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.signal(), None, "killed by a signal");
            return status.code().unwrap();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn the_guests_verdict_is_the_exit_status() {
    for (code, status) in [
        (&b"\xb0\x00\xe6\xf4"[..], 1),         // out 0xf4, al = 0
        (b"\xb0\x2a\xe6\xf4", 85),             // al = 0x2a
        (b"\x66\xb8\x01\x02\x66\xe7\xf4", 3),  // ax = 0x201
        (b"\xb8\x85\x03\x02\x01\xe7\xf4", 11), // eax = 0x1020385
        (b"\xb0\xfe\xe6\x64", 0),              // the reset
    ] {
        for cpus in ["1", "3"] {
            let ended = run(&guests::pvh(code), &["--cpus", cpus]);
            assert_eq!((ended.status, ended.stderr.as_str()), (status, ""), "{code:x?}");
        }
    }
}

fn a_crash_is_one_line_and_the_registers() {
    // mov eax, 0x12345678; ud2: and there is no IDT.
    let ended = run(&guests::pvh(b"\xb8\x78\x56\x34\x12\x0f\x0b"), &[]);
    assert_eq!(ended.status, 6);
    let mut lines = ended.stderr.lines();
    let why = lines.next().unwrap();
    assert!(
        why.starts_with("cafevm: the guest crashed (vCPU 0): triple fault"),
        "{}",
        ended.stderr
    );
    let registers: Vec<_> = lines.collect();
    assert!(registers.iter().all(|line| line.starts_with("  ")), "{}", ended.stderr);
    for name in ["rip", "rsp", "rflags", "rax", "r15", "cr0", "cr3", "efer", "cs", "gdt"] {
        assert!(registers.iter().any(|line| line.contains(name)), "{name}: {}", ended.stderr);
    }
}

fn both_entries_find_their_command_line() {
    for elf in [guests::pvh(guests::PRINT_PVH), guests::long(guests::PRINT_LONG)] {
        let ended = run(&elf, &["--cmdline", "hello=world \"a b\""]);
        assert_eq!((ended.status, ended.stdout.as_str()), (1, "hello=world \"a b\""), "{ended:?}");
    }
}

fn fast_strings_are_on() {
    // mov ecx, 0x1a0 (IA32_MISC_ENABLE); rdmsr; and al, 1; out 0xf4, al.
    let code = b"\xb9\xa0\x01\x00\x00\x0f\x32\x24\x01\xe6\xf4";
    let ended = run(&guests::pvh(code), &["-vv", "--cpus", "2"]);
    let set = |cpu| format!("vCPU {cpu}: IA32_MISC_ENABLE is 0x");
    if ended.stderr.contains("this KVM has no IA32_MISC_ENABLE") {
        return;
    }
    assert_eq!(ended.status, 3, "bit 0 is clear: {ended:?}");
    // Some KVMs set it themselves, so the guest alone does not show that cafevm does.
    assert!((0..2).all(|cpu| ended.stderr.contains(&set(cpu))), "{}", ended.stderr);
}

fn a_guest_that_never_ends_is_stopped() {
    // One spins, one halts with interrupts off.
    for code in [&b"\xeb\xfe"[..], b"\xfa\xf4\xeb\xfc"] {
        let begun = Instant::now();
        let (_dir, path) = guest(&guests::pvh(code));
        let mut child = cafevm()
            .args(["--timeout", "0.3", "--cpus", "2", "--kernel"])
            .arg(path)
            .spawn()
            .unwrap();
        assert_eq!(wait_within(&mut child, Duration::from_secs(10)), 124);
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

fn signals_end_it() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (_dir, path) = guest(&guests::pvh(guests::READY_AND_SPIN));
        let mut child = cafevm().args(["--cpus", "2", "--kernel"]).arg(path).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(wait_within(&mut child, Duration::from_secs(10)), 130, "{signal:?}");
        let ended = finish(child);
        assert!(ended.stderr.starts_with("cafevm: ended by SIG"), "{}", ended.stderr);
    }
}

fn output_that_nobody_reads_does_not_keep_it() {
    let (_dir, path) = guest(&guests::pvh(guests::FLOOD));
    let mut child = cafevm().args(["--timeout", "2", "--kernel"]).arg(&path).spawn().unwrap();
    assert_eq!(wait_within(&mut child, Duration::from_secs(20)), 124);
    let mut child = cafevm().args(["--timeout", "60", "--kernel"]).arg(&path).spawn().unwrap();
    // Long enough to fill a pipe.
    thread::sleep(Duration::from_secs(2));
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(wait_within(&mut child, Duration::from_secs(10)), 130);
}

fn output_that_is_closed_is_said_once() {
    let (_dir, path) = guest(&guests::pvh(guests::FLOOD));
    let mut child = cafevm().args(["--timeout", "1", "--kernel"]).arg(path).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(wait_within(&mut child, Duration::from_secs(20)), 124, "the guest ran on");
    let ended = finish(child);
    assert_eq!(ended.stderr.matches("output fails").count(), 1, "{}", ended.stderr);
}

/// Bytes that the echo guest sends back, and the one that ends it.
fn paste(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|n| b'A' + (n % 26) as u8).collect();
    bytes.push(b'q');
    bytes
}

fn input_from_a_pipe_or_a_file_is_whole() {
    let (dir, path) = guest(&guests::pvh(guests::ECHO));
    let bytes = paste(10 * 1024);
    let expected = &String::from_utf8(bytes.clone()).unwrap()[..10 * 1024];

    let mut child = cafevm().stdin(Stdio::piped()).arg("--kernel").arg(&path).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let ended = finish(child);
    writer.join().unwrap();
    assert_eq!((ended.status, ended.stdout.as_str()), (1, expected), "a pipe");

    let file = dir.path().join("input");
    fs::write(&file, paste(10 * 1024)).unwrap();
    let ended = finish(
        cafevm().stdin(File::open(&file).unwrap()).arg("--kernel").arg(&path).spawn().unwrap(),
    );
    assert_eq!((ended.status, ended.stdout.as_str()), (1, expected), "a file");
}

fn a_console_may_be_a_file_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, "from before; ").unwrap();
    let text = ["--cmdline", "hello", "--serial"];
    let elf = guests::pvh(guests::PRINT_PVH);
    let ended = run(&elf, &[&text[..], &[log.to_str().unwrap()]].concat());
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""));
    assert_eq!(fs::read_to_string(&log).unwrap(), "from before; hello", "nothing is lost");
    let ended = run(&elf, &[&text[..], &["null"]].concat());
    assert_eq!((ended.status, ended.stdout.as_str()), (1, ""));
    let nowhere = dir.path().join("none/log");
    let ended = run(&elf, &[&text[..], &[nowhere.to_str().unwrap()]].concat());
    assert_eq!(ended.status, 4);
    assert!(ended.stderr.contains("cannot be opened"), "{}", ended.stderr);
}

fn an_image_is_locked_while_it_runs() {
    let (dir, path) = guest(&guests::pvh(guests::READY_AND_SPIN));
    let image = dir.path().join("d.img");
    File::create(&image).unwrap().set_len(4096).unwrap();
    let start = || cafevm().arg("--kernel").arg(&path).arg("--disk").arg(&image).spawn().unwrap();
    let mut first = start();
    first.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let second = finish(start());
    assert_eq!(second.status, 4);
    assert!(second.stderr.contains("in use by another cafevm"), "{}", second.stderr);
    first.kill().unwrap();
    first.wait().unwrap();
    let mut third = start();
    third.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    kill_process(pid(&third), Signal::TERM).unwrap();
    assert_eq!(wait_within(&mut third, Duration::from_secs(10)), 130);
}

fn the_machine_is_described() {
    let (dir, path) = guest(&guests::pvh(b"\xb0\x00\xe6\xf4"));
    let image = dir.path().join("d.img");
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let disk = |keys: &str| format!("path={}{keys}", image.display());
    let mut command = cafevm();
    command.args(["-v", "--memory", "64M", "--cpus", "2", "--kernel"]).arg(path);
    let child = command.args(["--disk", &disk(",ro")]).args(["--disk", &disk(",ro,bus=svirtb")]);
    let ended = finish(child.spawn().unwrap());
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    for text in [
        "64 MiB",
        "vCPUs: 2",
        "guest.elf",
        "at 0x200000",
        "0xfeb00000",
        "interrupt 5",
        "0xcafe0000",
        "0x3f8",
        "1 MiB",
        "virtio_mmio.device=512@0xfeb00000:5",
        "exits",
    ] {
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    assert!(ended.stderr.lines().all(|line| line.starts_with("cafevm: ")), "{}", ended.stderr);
}

fn too_many_vcpus_or_too_much_memory() {
    let elf = guests::pvh(b"\xb0\x00\xe6\xf4");
    for (args, word) in [
        (["--cpus", "4000000"], "--cpus 4000000: this host's KVM runs at most"),
        (["--memory", "15000000T"], "too large; this processor addresses"),
    ] {
        let ended = run(&elf, &args);
        assert_eq!((ended.status, ended.stderr.lines().count()), (4, 1));
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
}

fn a_panic_has_a_status_that_no_guest_has() {
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me).env(PANIC, "1").output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("cafevm: a bug in cafevm: on purpose ("), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}
