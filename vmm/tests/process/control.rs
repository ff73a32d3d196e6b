//! A running machine and its control socket: a disk that grows, a pause, a full host.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use tempfile::TempDir;

use super::{Test, cafevm, wait_within};

pub(crate) const TESTS: &[Test] = &[
    ("a_disk_grows_under_the_guest", a_disk_grows_under_the_guest),
    ("a_paused_machine_does_nothing", a_paused_machine_does_nothing),
    ("a_socket_goes_with_its_machine", a_socket_goes_with_its_machine),
];

/// Tests that need a file system of their own, which only root can mount.
pub(crate) const ROOT_TESTS: &[Test] =
    &[("a_full_host_pauses_the_machine_until_there_is_room", a_full_host_pauses_the_machine)];

/// Whether a file system can be mounted here.
pub(crate) fn can_mount() -> bool {
    Mounted::new("64K").is_some()
}

/// A machine with the built-in shell, one disk and a control socket.
pub(crate) struct Machine {
    pub(crate) child: Child,
    pub(crate) answers: BufReader<UnixStream>,
    pub(crate) socket: PathBuf,
}

impl Machine {
    pub(crate) fn start(dir: &Path, disk: &str) -> Self {
        Self::spawn(cafevm(), dir, disk)
    }

    /// The same with a command that may have its own environment.
    pub(crate) fn spawn(mut command: Command, dir: &Path, disk: &str) -> Self {
        let socket = dir.join("control");
        command.args(["--timeout", "60", "--disk", disk, "--control"]).arg(&socket);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let connected = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => {
                    let soon = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
                    assert!(soon.contains(&error.kind()), "{error}");
                    thread::sleep(Duration::from_millis(5));
                }
            }
        };
        Self { child, answers: BufReader::new(connected), socket }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\r").unwrap();
    }

    /// Reads the guest's output up to and including `text`.
    pub(crate) fn read_to(&mut self, text: &str) -> String {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(text.as_bytes()) {
            let stdout = self.child.stdout.as_mut().unwrap();
            let count = stdout.read(&mut byte).unwrap();
            assert_eq!(count, 1, "ended before {text:?}: {}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        String::from_utf8(seen).unwrap()
    }

    pub(crate) fn tell(&mut self, message: &str) -> String {
        writeln!(self.answers.get_mut(), "{message}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    pub(crate) fn is_paused(&mut self) -> bool {
        self.tell(r#"{"status":{}}"#).contains(r#""paused":true"#)
    }

    pub(crate) fn wait_for_pause(&mut self) {
        while !self.is_paused() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets the guest exit with status 0. Returns the log.
    pub(crate) fn end(mut self) -> String {
        self.type_line("exit");
        assert_eq!(wait_within(&mut self.child, Duration::from_secs(20)), 0);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

pub(crate) fn image(dir: &Path, len: u64) -> PathBuf {
    let path = dir.join("d.img");
    fs::File::create(&path).unwrap().set_len(len).unwrap();
    path
}

fn a_disk_grows_under_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 64 * 512);
    let mut machine = Machine::start(dir.path(), &format!("{},id=data", path.display()));
    machine.read_to("cafevm> ");
    machine.type_line("read 64");
    assert!(machine.read_to("cafevm> ").contains("sectors 0 to 63"));

    let answer = machine.tell(r#"{"resize":{"id":"data","size":65536}}"#);
    assert_eq!(answer, r#"{"result":{"id":"data","size":65536}}"#);
    assert!(machine.tell(r#"{"resize":{"id":"data","size":512}}"#).contains("only grow"));
    machine.type_line("status");
    let status = machine.read_to("cafevm> ");
    assert!(status.contains("128 sectors"), "{status}");
    let generation = status.lines().find(|line| line.contains("ConfigGeneration")).unwrap();
    assert!(generation.contains("0x00000001"), "{generation}");
    // A driver that reads the configuration again, as after a reset, uses the new sectors.
    machine.type_line("reset");
    machine.read_to("cafevm> ");
    machine.type_line("write 127 the end");
    machine.read_to("cafevm> ");
    machine.end();
    let bytes = fs::read(path).unwrap();
    assert_eq!((bytes.len(), &bytes[127 * 512..127 * 512 + 7]), (65536, &b"the end"[..]));
}

fn a_paused_machine_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 4096);
    let mut machine = Machine::start(dir.path(), &path.display().to_string());
    machine.read_to("cafevm> ");
    assert_eq!(machine.tell(r#"{"pause":{}}"#), r#"{"result":{}}"#);
    assert!(machine.is_paused());
    machine.type_line("write 0 paused");
    // No test can prove that nothing happens; this is far longer than a write takes.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(fs::read(&path).unwrap(), [0; 4096]);
    machine.tell(r#"{"resume":{}}"#);
    machine.read_to("wrote sector 0");
    machine.end();
    assert!(fs::read(&path).unwrap().starts_with(b"paused\0"));
}

fn a_socket_goes_with_its_machine() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 4096);
    let mut machine = Machine::start(dir.path(), &path.display().to_string());
    machine.read_to("cafevm> ");
    // A paused machine can be ended, too.
    machine.tell(r#"{"pause":{}}"#);
    let socket = machine.socket.clone();
    rustix::process::kill_process(super::pid(&machine.child), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(wait_within(&mut machine.child, Duration::from_secs(20)), 130);
    assert!(!socket.exists());
}

fn a_full_host_pauses_the_machine() {
    let (host, mut machine) = FullHost::with_a_write_that_waits("");
    // Still no room: the machine retries, and pauses again.
    machine.tell(r#"{"resume":{}}"#);
    machine.wait_for_pause();
    host.make_room();
    machine.tell(r#"{"resume":{}}"#);
    machine.read_to("wrote sector 9");
    let said = machine.end();
    assert!(said.contains("d.img: No space left on device"), "{said}");
    assert!(said.contains("the machine is paused (werror=stop)"), "{said}");
    let bytes = fs::read(&host.image).unwrap();
    assert!(bytes[9 * 512..].starts_with(b"there was room\0"));
}

/// A full file system with a disk's image.
pub(crate) struct FullHost {
    pub(crate) image: PathBuf,
    /// The file that fills it.
    filler: PathBuf,
    _mounted: Mounted,
    /// The path of the machine's control socket.
    _socket_dir: TempDir,
}

impl FullHost {
    /// Runs a machine with the image as its disk and these options, which is paused because sector 9 cannot be written.
    pub(crate) fn with_a_write_that_waits(options: &str) -> (Self, Machine) {
        let mounted = Mounted::new("256K").expect("asked before");
        let dir = mounted.0.path();
        let (image, filler) = (image(dir, 1 << 20), dir.join("filler"));
        let mut file = fs::File::create(&filler).unwrap();
        let full =
            std::iter::repeat_with(|| file.write_all(&[1; 4096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull);

        let socket_dir = tempfile::tempdir().unwrap();
        let disk = format!("{},werror=stop{options}", image.display());
        let mut machine = Machine::start(socket_dir.path(), &disk);
        machine.read_to("cafevm> ");
        machine.type_line("write 9 there was room");
        machine.wait_for_pause();
        (Self { image, filler, _mounted: mounted, _socket_dir: socket_dir }, machine)
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(&self.filler).unwrap();
    }
}

/// A small file system in memory; it is unmounted by the drop.
pub(crate) struct Mounted(pub(crate) TempDir);

impl Mounted {
    /// None if this user cannot mount one.
    pub(crate) fn new(size: &str) -> Option<Self> {
        let at = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at.path());
        let done = mount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
