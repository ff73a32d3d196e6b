//! `cafevm demo`: shows the main job to a newcomer, and checks the result on the host.
//!
//! It runs the built-in guest with two scratch images, one for each protocol. It prints each register access, each ring
//! entry and each request as the device saw it (`story.rs`). When the guest has ended, it compares the images with what
//! the guest should have written. If asked to, it also shows the guest's screen (`screen.rs`).

mod screen;
mod story;
mod wrap;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::observe::Tap;
use cafevm_devices::svirtb;

use crate::boot::KernelSource;
use crate::config::address::ListenAddress;
use crate::config::{DiskBus, DiskConfig, VmConfig};
use crate::console::{Input, Output};
use crate::error::{Error, HostError};
use crate::exit::Verdict;
use crate::machine::host::Host;
use crate::run::signals::Signals;
use crate::run::{Console, run};
use screen::DemoScreen;
use story::Story;

/// The sectors of 512 bytes of each scratch image.
const SECTORS: usize = 64;
const SECTOR_SIZE: usize = 512;
/// The byte that both images are filled with before the guest runs.
const BLANK: u8 = b'.';
/// Far more than the demo needs, also where KVM emulates its guests.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What the guest writes: to which disk, into which sector, which text.
struct Expected {
    bus: &'static str,
    sector: usize,
    text: &'static str,
}

const SVIRTB: Expected =
    Expected { bus: "svirtb", sector: 1, text: "hello from six registers and one ring" };
const VIRTIO: Expected = Expected { bus: "virtio", sector: 7, text: "hello from a virtqueue" };

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The machine did not start, or the host failed.
    #[error(transparent)]
    Run(#[from] Error),
    /// The scratch images could not be created or read.
    #[error(
        "cannot {what}: {source}; the demo needs room for two small files there (in TMPDIR, or /tmp)"
    )]
    Scratch {
        /// What was tried.
        what: String,
        /// The host's error.
        source: io::Error,
    },
    /// Standard output failed. A reader that closed the pipe is no failure.
    #[error("cannot write to standard output: {0}; both images were correct")]
    Output(io::Error),
    /// The screenshot cannot be written.
    #[error("cannot write the screenshot: {0}")]
    Screenshot(String),
    /// The guest ended in another way than by powering off.
    #[error("the guest did not power off: {0}")]
    Guest(String),
    /// An image does not hold what the guest wrote.
    #[error("{}: {why}", image.display())]
    Differs {
        /// The image.
        image: PathBuf,
        /// In what it differs.
        why: String,
    },
}

/// Runs the demo and prints what happens on standard output. Writes what the guest's screen shows at the end to
/// `screenshot`. With `display`, VNC clients can connect there, and the guest waits at its prompt until somebody ends it.
///
/// # Errors
///
/// If the host fails, or an image does not hold what the guest wrote: the demo is a test, too.
pub fn demo(
    kvm: PathBuf,
    screenshot: Option<&Path>,
    display: Option<ListenAddress>,
) -> Result<(), DemoError> {
    // First of all: nothing else works without KVM.
    Host::open(&kvm)?;
    screenshot.map_or(Ok(()), screen::check)?;
    let scratch = tempfile::Builder::new()
        .prefix("cafevm-demo-")
        .tempdir()
        .map_err(|source| failed("make a scratch directory", &std::env::temp_dir(), source))?;
    let image = |expected: &Expected| scratch.path().join(format!("{}.img", expected.bus));
    for expected in [&SVIRTB, &VIRTIO] {
        let path = image(expected);
        fs::write(&path, [BLANK; SECTORS * SECTOR_SIZE])
            .map_err(|source| failed("make", &path, source))?;
    }
    let story = Story::begin(&image(&SVIRTB), &image(&VIRTIO), SECTORS);

    let svirtb = DiskBus::Svirtb { entry_size: svirtb::EntrySize::Auto };
    let stays = display.is_some();
    let mut config = VmConfig {
        command_line: script(stays),
        disks: vec![
            DiskConfig { bus: svirtb, ..DiskConfig::new(image(&SVIRTB)) },
            DiskConfig::new(image(&VIRTIO)),
        ],
        memory: 16 << 20,
        timeout: (!stays).then_some(TIME_LIMIT),
        tap: Tap::to(Arc::new(story.clone())),
        kvm,
        ..VmConfig::new(KernelSource::built_in())
    };
    let screen = DemoScreen::default();
    if let Some(address) = &display {
        story.viewers_are_welcome(address);
    }
    if stays || screenshot.is_some() {
        screen.add_to(&mut config, display);
    }
    let console = Console {
        output: Output::Writer(Box::new(story.clone())),
        input: Input::None,
        signals: Some(Signals::catch().map_err(Error::from)?),
    };
    let report = run(&config, console)?;
    let as_it_should = match report.verdict {
        Verdict::PowerOff => true,
        Verdict::Interrupted(_) => stays,
        _ => false,
    };
    if !as_it_should {
        return Err(DemoError::Guest(format!("{:?}", report.verdict)));
    }
    story.ended(&report);
    if let Some(to) = screenshot {
        screen.write(to)?;
        story.screenshot(to);
    }
    // Where somebody has typed commands, who knows which?
    if !stays {
        story.images();
        for expected in [&SVIRTB, &VIRTIO] {
            let path = image(expected);
            check(&path, expected)?;
            story.holds(&path, expected.sector, expected.text);
        }
        story.end();
    }
    story.written().map_err(DemoError::Output)
}

/// The guest's commands, on its kernel command line. Without `exit` it stays at its prompt after them.
fn script(stays: bool) -> String {
    let Expected { sector: s, text: t, .. } = SVIRTB;
    let Expected { sector: v, text: u, .. } = VIRTIO;
    let end = if stays { "" } else { "; exit" };
    format!(
        "sh=\"dev svirtb; write {s} {t}; read {s}; dev virtio; write {v} {u}; flush; read {v}{end}\""
    )
}

/// Checks that the image holds what the guest wrote, and that nothing else changed.
fn check(path: &Path, written: &Expected) -> Result<(), DemoError> {
    let bytes = fs::read(path).map_err(|source| failed("read", path, source))?;
    let mut expected = vec![BLANK; SECTORS * SECTOR_SIZE];
    let at = written.sector * SECTOR_SIZE;
    let text = written.text.bytes().chain(std::iter::repeat(0)).take(SECTOR_SIZE);
    for (to, byte) in expected.iter_mut().skip(at).zip(text) {
        *to = byte;
    }
    let differs = |why| DemoError::Differs { image: path.to_owned(), why };
    if bytes.len() != expected.len() {
        return Err(differs(format!("has {} bytes, and had {}", bytes.len(), expected.len())));
    }
    match bytes.iter().zip(&expected).position(|(is, should)| is != should) {
        Some(at) => Err(differs(format!("differs from byte {at} on"))),
        None => Ok(()),
    }
}

fn failed(what: &str, path: &Path, source: io::Error) -> DemoError {
    DemoError::Scratch { what: format!("{what} {}", path.display()), source }
}

impl From<HostError> for DemoError {
    fn from(error: HostError) -> Self {
        Self::Run(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_checked_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.img");
        let mut bytes = vec![BLANK; SECTORS * SECTOR_SIZE];
        let expected = Expected { bus: "virtio", sector: 2, text: "abc" };
        let verdict = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check(&path, &expected).map_err(|e| e.to_string())
        };
        assert!(verdict(&bytes).unwrap_err().ends_with("differs from byte 1024 on"));
        bytes[1024..1536].fill(0);
        bytes[1024..1027].copy_from_slice(b"abc");
        assert_eq!(verdict(&bytes), Ok(()));
        for at in [0, 1023, 1027, 1536, SECTORS * SECTOR_SIZE - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(verdict(&wrong).unwrap_err().ends_with(&format!("from byte {at} on")));
        }
        bytes.push(BLANK);
        assert!(verdict(&bytes).is_err());
    }
}
