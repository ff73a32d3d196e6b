//! On a terminal: raw while the guest has it, and as before in every other moment.

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

use super::{Test, cafevm, guest, guests, paste, pid, wait_within};

pub(crate) const TESTS: &[Test] = &[
    ("it_is_raw_while_the_guest_runs_and_restored", it_is_raw_while_the_guest_runs_and_restored),
    ("ctrl_a_x_quits", ctrl_a_x_quits),
    ("ctrl_a_x_quits_where_the_guest_does_not_read", ctrl_a_x_quits_where_the_guest_does_not_read),
    ("ctrl_a_h_lists_the_keys", ctrl_a_h_lists_the_keys),
    ("ctrl_c_is_the_guests", ctrl_c_is_the_guests),
    ("a_signal_restores_it", a_signal_restores_it),
    ("a_pause_restores_it_and_going_on_takes_it", a_pause_restores_it_and_going_on_takes_it),
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

    /// Starts cafevm with this guest on the terminal.
    fn start(&self, elf: &Path) -> Child {
        let end = || Stdio::from(self.program.try_clone().unwrap());
        let mut command = cafevm();
        command.arg("--kernel").arg(elf).stdin(end()).stdout(end()).stderr(end());
        command.spawn().unwrap()
    }

    fn types(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    /// Reads what the program shows until it ends with this text.
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

    /// Waits until it is raw, or is not.
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

/// The terminal controls a session whose shell has it; cafevm is a job of that shell in the background. It must run
/// to its end all the same, and not be stopped for looking at the terminal.
fn in_the_background_it_is_left_alone() {
    let (dir, elf) = guest(&guests::pvh(guests::PRINT_PVH));
    let script = dir.path().join("job.sh");
    let text = "set -m; \"$1\" run --kernel \"$2\" --cmdline done & wait $!; echo \"status $?\"";
    fs::write(&script, text).unwrap();
    let mut pty = Pty::new();
    let end = || Stdio::from(pty.program.try_clone().unwrap());
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "--wait", "bash"])
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_cafevm"))
        .arg(elf);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    assert_eq!(wait_within(&mut child, SOON), 0);
    pty.is_as_before();
    let seen = pty.shows("status 1\r\n");
    assert!(seen.contains("done"), "{seen}");
}
