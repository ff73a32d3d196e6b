//! `cafevm run --gdb`: with gdb itself, run by a script, and with a small client of its protocol (`client.rs`) for what
//! gdb does not do.

mod client;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cafevm_guest_tests::{Failed, Outcome, SECTOR, Scratch, ensure, fail, tests};
use client::Client;

tests! { needs ["gdb", "gcc", "make"];
    breaks_in_the_built_in_guest_and_reads_a_ring,
    steps_and_changes_registers_and_memory,
    stops_at_a_finding_of_the_doctor,
    interrupts_a_guest_with_several_vcpus,
    goes_on_without_a_debugger_and_takes_the_next_one,
    ends_the_machine_on_request,
    tells_a_client_how_the_machine_ended,
    survives_broken_clients,
    says_why_it_cannot_listen,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cafevm-under-test");
const SOCKET: &str = "gdb";

/// A machine that waits for a debugger at `gdb` in its directory.
struct Machine {
    process: Child,
    scratch: Scratch,
}

impl Machine {
    /// Runs cafevm in a new directory with `disk.img`.
    fn start(flags: &[&str]) -> Result<Self, Failed> {
        let scratch = Scratch::new()?;
        scratch.image("disk.img", 1 << 20)?;
        Self::start_in(scratch, flags)
    }

    /// The same with a guest that waits for input, and so does not end while no client is connected.
    fn start_waiting() -> Result<Self, Failed> {
        let scratch = Scratch::new()?;
        scratch.image("disk.img", 1 << 20)?;
        Self::start_with(scratch, &[], Stdio::piped())
    }

    fn start_in(scratch: Scratch, flags: &[&str]) -> Result<Self, Failed> {
        Self::start_with(scratch, flags, Stdio::null())
    }

    fn start_with(scratch: Scratch, flags: &[&str], input: Stdio) -> Result<Self, Failed> {
        let mut cafevm = Command::new(PROGRAM);
        cafevm.current_dir(scratch.path("")).args(["run", "--timeout", "100", "--gdb", "unix:gdb"]);
        cafevm.args(flags).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let machine = Self { process: cafevm.spawn()?, scratch };
        let limit = Instant::now() + Duration::from_secs(60);
        while !machine.scratch.path(SOCKET).exists() {
            ensure!(Instant::now() < limit, "there is no socket after a minute");
            std::thread::yield_now();
        }
        Ok(machine)
    }

    /// Runs gdb with these commands after `target remote`. Returns what it prints.
    fn gdb(&self, commands: &[&str]) -> Result<String, Failed> {
        let dir = self.scratch.path("");
        let script = [&["set pagination off", "set confirm off", "target remote gdb"], commands];
        std::fs::write(dir.join("script"), script.concat().join("\n"))?;
        let mut gdb = Command::new("timeout");
        gdb.args(["60", "gdb", "-nx", "-q", "-batch", "-x", "script"]).current_dir(dir);
        let ended = gdb.stdin(Stdio::null()).output()?;
        // What the guest's machine prints goes to standard error.
        let bytes = [ended.stderr, ended.stdout].concat();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        ensure!(ended.status.success(), "gdb: {:?}\n{text}", ended.status);
        Ok(text)
    }

    fn connect(&self) -> Result<Client, Failed> {
        Client::connect(&self.scratch.path(SOCKET))
    }

    /// Its exit status and its log, when it has ended.
    fn end(self) -> Result<(i32, String), Failed> {
        let Output { status, stderr, .. } = self.process.wait_with_output()?;
        let log = String::from_utf8_lossy(&stderr).into_owned();
        match status.code() {
            Some(code) => Ok((code, log)),
            None => fail!("{status:?}: {log}"),
        }
    }
}

/// The text after `start` up to white space.
fn after<'a>(text: &'a str, start: &str) -> Result<&'a str, Failed> {
    let found = text.split_once(start).and_then(|(_, rest)| rest.split_whitespace().next());
    found.ok_or_else(|| format!("no {start:?} in {text}").into())
}

fn breaks_in_the_built_in_guest_and_reads_a_ring() -> Outcome {
    let flags = ["--disk", "disk.img", "--serial", "null", "--cmdline", "sh=\"read 0; exit\""];
    // The guest does the same in each run, so a trace says where its ring is.
    let machine =
        Machine::start(&[&flags[..], &["--trace", "ring", "--trace-file", "trace"]].concat())?;
    machine.gdb(&["continue"])?;
    let trace = std::fs::read_to_string(machine.scratch.path("trace"))?;
    let ring = after(&trace, "available ring ")?.trim_end_matches(',').to_owned();
    ensure!(machine.end()?.0 == 0, "the first run failed");

    let machine = Machine::start(&flags)?;
    let read = format!("x/2xh {ring}");
    // gdb gets the symbols of the built-in guest from cafevm. The function runs one command.
    let commands =
        ["rbreak ^shell::commands::run::", "continue", &read, "continue", &read, "continue"];
    let text = machine.gdb(&commands)?;
    let rings: Vec<_> = text.lines().filter(|line| line.starts_with(&ring)).collect();
    ensure!(
        matches!(rings[..], [first, second]
            if first.ends_with("0x0000\t0x0000") && second.ends_with("0x0000\t0x0001")),
        "the flags and the index before and after a request: {text}"
    );
    ensure!(text.contains("exited normally"), "{text}");
    let (status, log) = machine.end()?;
    ensure!(status == 0 && log.contains("the guest waits for gdb"), "{status}: {log}");
    Ok(())
}

/// A kernel of `cafevm new` with this change in its virtio driver.
fn kernel(right: &str, wrong: &str) -> Result<Scratch, Failed> {
    let scratch = Scratch::new()?;
    let dir = scratch.path("k");
    let new = Command::new(PROGRAM).arg("new").arg(&dir).output()?;
    ensure!(new.status.success(), "cafevm new: {new:?}");
    let file = dir.join("virtio.c");
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains(right), "no {right:?} in virtio.c");
    std::fs::write(file, text.replacen(right, wrong, 1))?;
    let mut make = Command::new("make");
    make.env_remove("MAKEFLAGS").env_remove("CFLAGS").env_remove("LDFLAGS");
    let built = make.current_dir(dir).args(["--silent", "kernel.elf", "disk.img"]).output()?;
    ensure!(built.status.success(), "make: {}", String::from_utf8_lossy(&built.stderr));
    Ok(scratch)
}

const KERNEL: [&str; 3] = ["k/kernel.elf", "--disk", "k/disk.img"];

fn steps_and_changes_registers_and_memory() -> Outcome {
    let machine = Machine::start_in(kernel("", "")?, &KERNEL)?;
    let text = machine.gdb(&[
        "break main",
        "continue",
        "print $rip == (unsigned long)&main",
        "stepi",
        "print $rip > (unsigned long)&main",
        // The first transfer is a write of sector 1: it goes to sector 3, with another text.
        "break transfer if write == 1",
        "continue",
        "set var sector = 3",
        "set var data[0] = 'H'",
        "print data",
        "set $xmm15.v2_int64[1] = 0x1234",
        "print/x $xmm15.v2_int64[1]",
        "delete",
        "detach",
    ])?;
    for line in ["$1 = 1", "$2 = 1", "\"Hello from my kernel\"", "$4 = 0x1234"] {
        ensure!(text.contains(line), "no {line} in {text}");
    }
    // Nothing was written to sector 1, which the guest then reads and prints.
    let Output { status, stdout, stderr } = machine.process.wait_with_output()?;
    let log = String::from_utf8_lossy(&stderr);
    ensure!(status.success() && stdout.starts_with(b"virtio: sector 1 holds \"\""), "{stdout:?}");
    ensure!(log.contains("gdb has disconnected; the guest continues"), "{log}");
    let disk = std::fs::read(machine.scratch.path("k/disk.img"))?;
    let sector = disk.get(3 * SECTOR..).unwrap_or_default();
    ensure!(sector.starts_with(b"Hello from my kernel\0"), "sector 3");
    Ok(())
}

fn stops_at_a_finding_of_the_doctor() -> Outcome {
    let scratch = kernel("write ? NEXT : NEXT | WRITE", "NEXT")?;
    let machine = Machine::start_in(scratch, &[&KERNEL[..], &["--doctor"]].concat())?;
    let text = machine.gdb(&["continue", "backtrace", "print avail.idx", "continue"])?;
    // The line of the finding, and the place: the doorbell of the second request.
    let (_, stopped) = text.split_once("received signal SIGTRAP").ok_or(text.clone())?;
    ensure!(text.contains("cafevm: virtio.blk-layout: virtio0: the request at"), "{text}");
    ensure!(stopped.contains("#0  transfer (") && stopped.contains("$1 = 2"), "{text}");
    ensure!(text.contains("exited with code 07"), "{text}");
    let (status, log) = machine.end()?;
    ensure!(status == 7 && log.contains("in transfer (virtio.c:"), "{status}: {log}");
    Ok(())
}

fn interrupts_a_guest_with_several_vcpus() -> Outcome {
    let machine = Machine::start(&[
        "--cpus",
        "3",
        "--cmdline",
        "sh=\"repeat 9999999 dev\"",
        "--serial",
        "null",
    ])?;
    let mut client = machine.connect()?;
    let stopped = client.ask("?")?;
    ensure!(stopped.starts_with(['T', 'S']), "no stop: {stopped}");
    let threads = client.ask("qfThreadInfo")?;
    ensure!(threads.matches(',').count() == 2, "three vCPUs: {threads}");
    client.send("vCont;c")?;
    client.interrupt()?;
    let stopped = client.receive()?;
    ensure!(stopped.starts_with("T02"), "not SIGINT: {stopped}");
    // All vCPUs stand: the registers of each can be read, and stay.
    for thread in 1..=3 {
        ensure!(client.ask(&format!("Hg{thread}"))? == "OK", "no thread {thread}");
        let registers = client.ask("g")?;
        ensure!(registers.len() > 1000 && registers == client.ask("g")?, "{registers}");
    }
    client.send("k")?;
    ensure!(machine.end()?.0 == 0, "after kill");
    Ok(())
}

fn goes_on_without_a_debugger_and_takes_the_next_one() -> Outcome {
    let machine = Machine::start(&["--cmdline", "sh=\"repeat 9999999 dev\"", "--serial", "null"])?;
    let mut first = machine.connect()?;
    // A breakpoint where the guest starts, so that it is clear that it goes with the connection.
    ensure!(first.ask("Z0,200001,1")? == "OK", "no breakpoint");
    ensure!(first.ask("Z2,200001,2")?.starts_with('E'), "a range that is not aligned");
    drop(first);
    // Stopped again, it is somewhere else: the breakpoint did not hold it.
    let mut second = machine.connect()?;
    ensure!(!second.ask("g")?.is_empty(), "no registers");
    ensure!(second.ask("z0,200001,1")?.starts_with('E'), "the breakpoint of the first client");
    // There is one debugger at a time: the third one waits.
    let mut third = machine.connect()?;
    third.send("k")?;
    ensure!(second.ask("D")? == "OK", "no detach");
    ensure!(machine.end()?.0 == 0, "after kill");
    Ok(())
}

fn ends_the_machine_on_request() -> Outcome {
    let machine = Machine::start(&["--cpus", "2"])?;
    machine.gdb(&["kill"])?;
    let (status, log) = machine.end()?;
    ensure!(status == 0, "{status}: {log}");
    Ok(())
}

fn tells_a_client_how_the_machine_ended() -> Outcome {
    let machine = Machine::start(&["--cmdline", "sh=\"exit 5\"", "--serial", "null"])?;
    let mut client = machine.connect()?;
    client.send("vCont;c")?;
    let ended = client.receive()?;
    let (status, log) = machine.end()?;
    ensure!(ended == format!("W{status:02x}"), "{ended}, and status {status}: {log}");
    Ok(())
}

fn survives_broken_clients() -> Outcome {
    let machine = Machine::start_waiting()?;
    let path = machine.scratch.path(SOCKET);
    let bytes = |text: &str| Client::send_only(&path, text.as_bytes());
    bytes("")?;
    bytes("GET / HTTP/1.1\r\n\r\n")?;
    bytes("$qSupported#00")?;
    bytes("$g#ff$g#ff")?;
    bytes("$mffffffffffffffff,ffffffffffffffff#aa")?;
    bytes("$vCont;s:99;c:ffffffffffffffff#00")?;
    bytes(&format!("${}", "a".repeat(200_000)))?;
    bytes(&"$?#3f".repeat(20_000))?;
    let mut client = machine.connect()?;
    // Outside RAM, and past the end of the address space: an error, and no more.
    for packet in ["m1000000000,8", "mffffffffffffffff,10", "M1000000000,1:00", "P10=zz"] {
        let answer = client.ask(packet)?;
        ensure!(!answer.starts_with("OK"), "{packet}: {answer}");
    }
    client.send("k")?;
    let (status, log) = machine.end()?;
    ensure!(status == 0 && log.len() < 20_000, "{status}: {log}");
    Ok(())
}

fn says_why_it_cannot_listen() -> Outcome {
    let scratch = Scratch::new()?;
    std::fs::write(scratch.path("file"), "precious")?;
    let run = |address: &str| {
        let mut cafevm = Command::new(PROGRAM);
        cafevm.current_dir(scratch.path("")).args(["run", "--gdb", address]).output()
    };
    let ended = run("unix:file")?;
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.code() == Some(4), "{ended:?}");
    ensure!(log.starts_with("cafevm: --gdb file: cannot listen there: "), "{log}");
    ensure!(std::fs::read(scratch.path("file"))? == b"precious", "the file has changed");
    let ended = run("nowhere")?;
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.code() == Some(2) && log.contains("127.0.0.1:1234"), "{ended:?}");
    ensure!(!Path::new(&scratch.path("gdb")).exists(), "a socket stays behind");
    Ok(())
}
