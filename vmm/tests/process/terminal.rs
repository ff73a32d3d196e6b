//! The terminal: raw while the guest uses it, with its previous settings at all other times.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Termios, tcgetattr};

use tempfile::TempDir;

use super::{Test, cafevm, finish, guest, guests, paste, pid, wait_within};

pub(crate) const TESTS: &[Test] = &[
    ("it_is_raw_while_the_guest_runs_and_restored", it_is_raw_while_the_guest_runs_and_restored),
    ("ctrl_a_x_quits", ctrl_a_x_quits),
    ("ctrl_a_x_quits_where_the_guest_does_not_read", ctrl_a_x_quits_where_the_guest_does_not_read),
    ("ctrl_a_h_lists_the_keys", ctrl_a_h_lists_the_keys),
    ("ctrl_c_is_the_guests", ctrl_c_is_the_guests),
    ("a_signal_restores_it", a_signal_restores_it),
    ("a_pause_restores_it_and_going_on_takes_it", a_pause_restores_it_and_going_on_takes_it),
    ("fg_makes_it_raw_for_a_job_that_runs", fg_makes_it_raw_for_a_job_that_runs),
    ("the_way_out_is_said_at_the_start_and_after_three_ctrl_c", the_way_out_is_said),
    ("log_lines_begin_on_a_fresh_line", log_lines_begin_on_a_fresh_line),
    ("log_lines_are_coloured_unless_no_color_is_set", log_lines_are_coloured),
    ("the_demo_is_coloured_unless_no_color_is_set", the_demo_is_coloured),
    ("a_terminal_that_nobody_reads_does_not_keep_it", a_terminal_that_nobody_reads),
    ("a_paste_of_10_kib_is_whole", a_paste_of_10_kib_is_whole),
    ("in_the_background_it_is_left_alone", in_the_background_it_is_left_alone),
];

/// A pseudo-terminal: the user's end and the program's.
struct Pty {
    user: File,
    program: OwnedFd,
    before: Termios,
}

impl Pty {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let user = openpt(flags).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let program = ioctl_tiocgptpeer(&user, flags).unwrap();
        let before = tcgetattr(&program).unwrap();
        Self { user: user.into(), program, before }
    }

    /// Starts cafevm with this guest on the terminal, and waits until it has logged how to end it.
    fn start(&mut self, elf: &Path) -> Child {
        let child = self.on_it(cafevm().env_remove("TERM").arg("--kernel").arg(elf));
        // The guest may be faster than the thread that writes the log.
        self.shows(WAY_OUT);
        child
    }

    fn on_it(&self, command: &mut Command) -> Child {
        let end = || Stdio::from(self.program.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// Runs a shell script with job control on the terminal; $1 is cafevm and $2 this guest.
    fn script(&self, dir: &TempDir, elf: &Path, text: &str) -> Child {
        let script = dir.path().join("job.sh");
        fs::write(&script, text).unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash"]).arg(script);
        self.on_it(command.arg(env!("CARGO_BIN_EXE_cafevm")).arg(elf).env_remove("TERM"))
    }

    fn types(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    /// Reads the output until it ends with this text.
    fn shows(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(text.as_bytes()) {
            assert_eq!(self.user.read(&mut byte).unwrap(), 1);
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.program).unwrap();
        assert!(now.output_modes.contains(OutputModes::OPOST), "log lines would be staircases");
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        !now.local_modes.intersects(cooked)
    }

    /// Waits until the terminal is raw, or is not.
    fn becomes_raw(&self, raw: bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.is_raw() != raw {
            assert!(Instant::now() < deadline, "raw: {}", !raw);
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn is_as_before(&self) {
        let (now, then) = (tcgetattr(self.program.as_fd()).unwrap(), &self.before);
        assert_eq!(now.local_modes, then.local_modes);
        assert_eq!(now.input_modes, then.input_modes);
        assert_eq!(now.output_modes, then.output_modes);
        assert_eq!(now.control_modes, then.control_modes);
    }
}

/// The line at the start.
const WAY_OUT: &str = "cafevm: Ctrl-A X ends cafevm\r\n";

const SOON: Duration = Duration::from_secs(10);

fn it_is_raw_while_the_guest_runs_and_restored() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    pty.types(b"hi\r");
    pty.shows("hi\r");
    assert!(pty.is_raw());
    pty.types(b"q");
    assert_eq!(wait_within(&mut child, SOON), 1);
    pty.is_as_before();
}

fn ctrl_a_x_quits() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    pty.types(b"a\x01\x01b\x01x");
    assert_eq!(wait_within(&mut child, SOON), 0);
    pty.is_as_before();
}

fn ctrl_a_x_quits_where_the_guest_does_not_read() {
    let (_dir, elf) = guest(&guests::pvh(guests::READY_AND_SPIN));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    pty.types(&paste(16 * 1024));
    pty.types(b"\x01x");
    assert_eq!(wait_within(&mut child, SOON), 0);
    pty.is_as_before();
}

fn ctrl_a_h_lists_the_keys() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    pty.types(b"\x01h");
    let line = pty.shows("\r\n");
    assert!(line.contains("Ctrl-A X") && line.contains("Ctrl-A H"), "{line}");
    pty.types(b"\x01\x01q");
    pty.shows("\x01");
    assert_eq!(wait_within(&mut child, SOON), 1);
}

fn ctrl_c_is_the_guests() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    pty.types(b"\x03\x1a\x1c\x04");
    pty.shows("\x03\x1a\x1c\x04");
    pty.types(b"q");
    assert_eq!(wait_within(&mut child, SOON), 1);
}

fn a_signal_restores_it() {
    let (_dir, elf) = guest(&guests::pvh(guests::READY_AND_SPIN));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut pty = Pty::new();
        let mut child = pty.start(&elf);
        pty.shows("R");
        pty.becomes_raw(true);
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(wait_within(&mut child, SOON), 130, "{signal:?}");
        pty.is_as_before();
        let text = pty.shows("\r\n");
        assert_eq!(text, "\r\n", "what follows begins on a line of its own");
    }
}

fn a_pause_restores_it_and_going_on_takes_it() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    kill_process(pid(&child), Signal::TSTP).unwrap();
    pty.becomes_raw(false);
    pty.is_as_before();
    kill_process(pid(&child), Signal::CONT).unwrap();
    pty.becomes_raw(true);
    pty.types(b"on");
    pty.shows("on");
    pty.types(b"q");
    assert_eq!(wait_within(&mut child, SOON), 1);
    pty.is_as_before();
}

fn a_paste_of_10_kib_is_whole() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.becomes_raw(true);
    let bytes = paste(10 * 1024);
    let mut user = pty.user.try_clone().unwrap();
    let typed = bytes.clone();
    let typist = thread::spawn(move || user.write_all(&typed).unwrap());
    let mut seen = vec![0; 10 * 1024];
    pty.user.read_exact(&mut seen).unwrap();
    typist.join().unwrap();
    assert!(seen == bytes[..seen.len()], "bytes were lost");
    assert_eq!(wait_within(&mut child, SOON), 1);
}

/// The terminal's session has a shell in the foreground; cafevm is a background job of that shell. It must run to its
/// end, and must not be stopped for a read of the terminal.
fn in_the_background_it_is_left_alone() {
    let (dir, elf) = guest(&guests::pvh(guests::PRINT_PVH));
    let text = "set -m; \"$1\" run --kernel \"$2\" --cmdline done & wait $!; echo \"status $?\"";
    let mut pty = Pty::new();
    let mut child = pty.script(&dir, &elf, text);
    assert_eq!(wait_within(&mut child, SOON), 0);
    pty.is_as_before();
    let seen = pty.shows("status 1\r\n");
    assert!(seen.contains("done"), "{seen}");
    assert!(!seen.contains("Ctrl-A X"), "it cannot be typed: {seen}");
}

/// A shell's `fg` sends no signal to a job that runs.
fn fg_makes_it_raw_for_a_job_that_runs() {
    let (dir, elf) = guest(&guests::pvh(guests::ECHO));
    let text =
        "set -m; \"$1\" run --kernel \"$2\" & echo started; read line; fg; echo \"status $?\"";
    let mut pty = Pty::new();
    let mut child = pty.script(&dir, &elf, text);
    pty.shows("started\r\n");
    // Long enough for cafevm to check the terminal, which it does not own.
    thread::sleep(Duration::from_secs(1));
    assert!(!pty.is_raw());
    pty.types(b"\n");
    pty.becomes_raw(true);
    pty.shows(WAY_OUT);
    pty.types(b"\x03on");
    pty.shows("\x03on");
    pty.types(b"q");
    pty.shows("status 1\r\n");
    assert_eq!(wait_within(&mut child, SOON), 0);
    pty.is_as_before();
}

fn the_way_out_is_said() {
    let (_dir, elf) = guest(&guests::pvh(guests::READY_AND_SPIN));
    let mut pty = Pty::new();
    let mut child = pty.start(&elf);
    pty.shows("R");
    pty.becomes_raw(true);
    pty.types(b"\x03\x03");
    thread::sleep(Duration::from_millis(200));
    pty.types(b"\x03");
    // After the guest's incomplete line, which is then repeated.
    assert_eq!(pty.shows("R"), format!("\r\n{WAY_OUT}R"));
    pty.types(b"\x01x");
    assert_eq!(wait_within(&mut child, SOON), 0);
}

/// The guest's output is "> wri" when a log line is written.
fn log_lines_begin_on_a_fresh_line() {
    let (_dir, elf) = guest(&guests::pvh(guests::ECHO));
    let help = "cafevm: keys: Ctrl-A X ends cafevm, Ctrl-A D explains what the guest waits for, Ctrl-A H shows this line, Ctrl-A Ctrl-A sends Ctrl-A to the guest\r\n";
    for (term, fresh) in [("dumb", "\r\n"), ("xterm", "\r\x1b[K")] {
        let mut pty = Pty::new();
        let mut command = cafevm();
        let mut child =
            pty.on_it(command.env("TERM", term).env("NO_COLOR", "1").arg("--kernel").arg(&elf));
        assert_eq!(pty.shows("\r\n"), WAY_OUT);
        pty.becomes_raw(true);
        for (typed, before, again) in [
            ("", "", ""),
            ("> wri", fresh, "> wri"),
            ("te\n", "", ""),
            // This line cannot be repeated; it continues below.
            ("\u{e4}", "\r\n", ""),
        ] {
            pty.types(typed.as_bytes());
            pty.shows(&typed.replace('\n', "\r\n"));
            pty.types(b"\x01h");
            let seen = pty.shows(&format!("{help}{again}"));
            assert_eq!(seen, format!("{before}{help}{again}"), "{term}, {typed:?}");
            pty.types(b"\n");
            pty.shows("\r\n");
        }
        pty.types(b"q");
        assert_eq!(wait_within(&mut child, SOON), 1);
    }
}

/// The thread that writes the guest's output waits for the terminal, and the log's thread waits for that thread.
fn a_terminal_that_nobody_reads() {
    for code in [guests::FLOOD, guests::PANIC_FOR_EVER] {
        let (_dir, elf) = guest(&guests::pvh(code));
        let pty = Pty::new();
        let mut command = cafevm();
        command.args(["-v", "--timeout", "1", "--kernel"]).arg(&elf);
        let mut child = pty.on_it(&mut command);
        assert_eq!(wait_within(&mut child, SOON), 124);
        pty.is_as_before();
    }
}

fn log_lines_are_coloured() {
    let (_dir, elf) = guest(&guests::pvh(b"\xb0\x00\xe6\xf4"));
    let plain = "cafevm: memory: 128 MiB; vCPUs: 1\r\n";
    for (no_color, shows) in
        [("", "\x1b[1mcafevm:\x1b[0m memory: 128 MiB; vCPUs: 1\r\n"), ("1", plain)]
    {
        let mut pty = Pty::new();
        let mut command = cafevm();
        command.env("TERM", "xterm").env("NO_COLOR", no_color).arg("-v").arg("--kernel").arg(&elf);
        let mut child = pty.on_it(&mut command);
        assert_eq!(pty.shows("vCPUs: 1\r\n"), shows);
        assert_eq!(wait_within(&mut child, SOON), 1);
    }
    // A pipe is no terminal.
    let mut command = cafevm();
    command.env("TERM", "xterm").env_remove("NO_COLOR").arg("-v").arg("--kernel").arg(&elf);
    let ended = finish(command.spawn().unwrap());
    assert!(ended.stderr.starts_with("cafevm: memory: "), "{}", ended.stderr);
}

fn the_demo_is_coloured() {
    let first = "cafevm demo: a guest kernel uses two disks, each by another protocol.";
    let coloured = format!("\x1b[1m{first}\x1b[0m\r\n");
    for (no_color, shows) in [("", coloured), ("1", format!("{first}\r\n"))] {
        let mut pty = Pty::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cafevm"));
        let mut child =
            pty.on_it(command.env("TERM", "xterm").env("NO_COLOR", no_color).arg("demo"));
        assert_eq!(pty.shows("\n"), shows);
        pty.shows("Ctrl-A X ends it.\r\n");
        assert_eq!(wait_within(&mut child, SOON), 0);
    }
}
