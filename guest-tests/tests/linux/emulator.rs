//! The outer machine: emulated whole, with SVM, so that it has a KVM of its own whatever this machine's can do.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use cafevm_guest_tests::Failed;

use crate::needs;

/// A processor that QEMU can emulate with nested virtualization. Without xsave: its emulation loses state.
const CPU: &str = "EPYC,-xsave";

/// What is typed on the outer machine's console: this text, as soon as that one was printed.
pub(crate) type Typed = (&'static str, Vec<u8>);

/// An outer machine.
pub(crate) struct Emulator<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Its disks, in order.
    pub(crate) disks: Vec<PathBuf>,
    pub(crate) typed: Vec<Typed>,
    pub(crate) limit: Duration,
}

impl Emulator<'_> {
    /// Runs it until it powers off or its time is over.
    pub(crate) fn run(&self) -> Result<Log, Failed> {
        let mut qemu = needs::command("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"])
            .args(["-no-reboot", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=512"])
            .args(["-cpu", CPU, "-smp", "1", "-m", "1024"])
            // On a busy host the emulated timer may be too late for Linux's own check of it.
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs);
        for (number, disk) in self.disks.iter().enumerate() {
            let file = disk.to_str().ok_or("a path that is no text")?.replace(',', ",,");
            qemu.arg("-drive").arg(format!(
                "file={file},if=none,id=disk{number},format=raw,cache=unsafe,discard=unmap"
            ));
            qemu.args(["-device", &format!("virtio-blk-pci,drive=disk{number}")]);
        }
        let start = Instant::now();
        let mut child = qemu
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("qemu-system-x86_64: {error}"))?;
        let log = self.watch(&mut child, start);
        if log.as_ref().map_or(true, |log| log.hung) {
            // Gone already, perhaps.
            let _killed = child.kill();
        }
        child.wait()?;
        log
    }

    fn watch(&self, child: &mut Child, start: Instant) -> Result<Log, Failed> {
        let mut output = child.stdout.take().ok_or("no pipe")?;
        let mut input = child.stdin.take().ok_or("no pipe")?;
        let (send, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if send.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut log = Log::default();
        let mut typed = self.typed.iter();
        let mut next = typed.next();
        loop {
            let left = self.limit.saturating_sub(start.elapsed());
            match chunks.recv_timeout(left) {
                Ok(bytes) => log.append(&bytes, start.elapsed()),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    log.hung = true;
                    break;
                }
            }
            while let Some((after, text)) = next
                && log.text.contains(after)
            {
                typing(&mut input, text)?;
                next = typed.next();
            }
        }
        Ok(log)
    }
}

fn typing(input: &mut ChildStdin, text: &[u8]) -> Result<(), Failed> {
    input.write_all(text)?;
    input.flush()?;
    Ok(())
}

/// What both machines printed, and when: in seconds since the outer machine began.
#[derive(Default)]
pub(crate) struct Log {
    /// Whether the time was over.
    pub(crate) hung: bool,
    text: String,
    lines: Vec<(f64, String)>,
    rest: Vec<u8>,
}

impl Log {
    fn append(&mut self, bytes: &[u8], at: Duration) {
        for &byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.rest).into_owned();
                    self.text.push_str(&line);
                    self.text.push('\n');
                    self.lines.push((at.as_secs_f64(), line));
                    self.rest.clear();
                }
                byte => self.rest.push(byte),
            }
        }
    }

    /// What follows `start` in the first line that begins with it, after any others.
    pub(crate) fn after(&self, start: &str) -> Option<&str> {
        self.lines.iter().find_map(|(_, line)| line.split_once(start).map(|(_, rest)| rest.trim()))
    }

    /// When the line with this text came, after `from` seconds.
    pub(crate) fn time(&self, text: &str, from: f64) -> Option<f64> {
        self.lines.iter().find(|(at, line)| *at >= from && line.contains(text)).map(|(at, _)| *at)
    }

    /// Writes it to a file.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failed> {
        Ok(fs::write(path, self.to_string())?)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in &self.lines {
            writeln!(f, "{at:8.2} {line}")?;
        }
        if self.hung {
            writeln!(f, "(the time was over)")?;
        }
        Ok(())
    }
}
