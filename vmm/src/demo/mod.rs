//! `cafevm demo`: the main job, shown as a story that a newcomer can follow, and checked from the host's side.
//!
//! Two scratch images, the built-in guest, both protocols. Each register access and each request is printed as
//! the device saw it (`story.rs`); when the guest has ended, the images are compared with what it was told to
//! write.

mod story;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::observe::Tap;
use cafevm_devices::svirtb;

use crate::boot::KernelSource;
use crate::config::{DiskBus, DiskConfig, VmConfig};
use crate::console::{Input, Output};
use crate::error::{Error, HostError};
use crate::exit::Verdict;
use crate::machine::host::Host;
use crate::run::signals::Signals;
use crate::run::{Console, run};
use story::Story;

/// The sectors of 512 bytes of each scratch image.
const SECTORS: usize = 64;
const SECTOR_SIZE: usize = 512;
/// The byte that both images are filled with before the guest runs.
const BLANK: u8 = b'.';
/// Far longer than it takes, also where KVM emulates its guests.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What the guest is told to write: on which disk, into which sector, which text.
struct Told {
    bus: &'static str,
    sector: usize,
    text: &'static str,
}

const SVIRTB: Told =
    Told { bus: "svirtb", sector: 1, text: "hello from six registers and one ring" };
const VIRTIO: Told = Told { bus: "virtio", sector: 7, text: "hello from a virtqueue" };

/// Why the demonstration did not go as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The machine could not be run.
    #[error(transparent)]
    Run(#[from] Error),
    /// The scratch images could not be made or read.
    #[error(
        "cannot {what}: {source}; the demo needs room for two small files there (TMPDIR says where)"
    )]
    Scratch {
        /// What was tried.
        what: String,
        /// The host's error.
        source: io::Error,
    },
    /// The story could not be written. A reader that closed its end is no failure.
    #[error("cannot write to standard output: {0}; the images were right")]
    Output(io::Error),
    /// The guest did not end as it was told to.
    #[error("the guest did not end as it was told to: {0}")]
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

/// Runs the demonstration and tells its story on standard output.
///
/// # Errors
///
/// Where anything is not as it should be: the demonstration is a test, too.
pub fn demo(kvm: PathBuf) -> Result<(), DemoError> {
    // Before the story: without KVM there is none.
    Host::open(&kvm)?;
    let scratch = tempfile::Builder::new()
        .prefix("cafevm-demo-")
        .tempdir()
        .map_err(|source| failed("make a scratch directory", &std::env::temp_dir(), source))?;
    let image = |told: &Told| scratch.path().join(format!("{}.img", told.bus));
    for told in [&SVIRTB, &VIRTIO] {
        let path = image(told);
        fs::write(&path, [BLANK; SECTORS * SECTOR_SIZE])
            .map_err(|source| failed("make", &path, source))?;
    }
    let story = Story::begin(&image(&SVIRTB), &image(&VIRTIO), SECTORS);

    let svirtb = DiskBus::Svirtb { entry_size: svirtb::EntrySize::Auto };
    let config = VmConfig {
        command_line: script(),
        disks: vec![
            DiskConfig { bus: svirtb, ..DiskConfig::new(image(&SVIRTB)) },
            DiskConfig::new(image(&VIRTIO)),
        ],
        memory: 16 << 20,
        timeout: Some(TIME_LIMIT),
        tap: Tap::to(Arc::new(story.clone())),
        kvm,
        ..VmConfig::new(KernelSource::built_in())
    };
    let console = Console {
        output: Output::Writer(Box::new(story.clone())),
        input: Input::None,
        signals: Some(Signals::catch().map_err(Error::from)?),
    };
    let report = run(&config, console)?;
    story.ended(&report);
    if report.verdict != Verdict::PowerOff {
        return Err(DemoError::Guest(format!("{:?}", report.verdict)));
    }
    for told in [&SVIRTB, &VIRTIO] {
        let path = image(told);
        check(&path, told)?;
        story.holds(&path, told.sector, told.text);
    }
    story.end();
    story.written().map_err(DemoError::Output)
}

/// The guest's commands, on its kernel command line.
fn script() -> String {
    let Told { sector: s, text: t, .. } = SVIRTB;
    let Told { sector: v, text: u, .. } = VIRTIO;
    format!(
        "sh=\"dev svirtb; write {s} {t}; read {s}; dev virtio; write {v} {u}; flush; read {v}; exit\""
    )
}

/// Whether the image holds what the guest was told to write, and nothing else has changed.
fn check(path: &Path, told: &Told) -> Result<(), DemoError> {
    let bytes = fs::read(path).map_err(|source| failed("read", path, source))?;
    let mut expected = vec![BLANK; SECTORS * SECTOR_SIZE];
    let at = told.sector * SECTOR_SIZE;
    let text = told.text.bytes().chain(std::iter::repeat(0)).take(SECTOR_SIZE);
    for (to, byte) in expected.iter_mut().skip(at).zip(text) {
        *to = byte;
    }
    let differs = |why| DemoError::Differs { image: path.to_owned(), why };
    if bytes.len() != expected.len() {
        return Err(differs(format!("has {} bytes, and had {}", bytes.len(), expected.len())));
    }
    match bytes.iter().zip(&expected).position(|(is, should)| is != should) {
        Some(at) => Err(differs(format!("is wrong from byte {at} on"))),
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
        let told = Told { bus: "virtio", sector: 2, text: "abc" };
        let verdict = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check(&path, &told).map_err(|e| e.to_string())
        };
        assert!(verdict(&bytes).unwrap_err().ends_with("is wrong from byte 1024 on"));
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
