//! The format of a disk's image, its backing files, and its overlay.

use std::path::PathBuf;

use cafevm_devices::block::format::Backing;
use cafevm_devices::block::{Access, EngineKind};

use super::DiskConfig;
use crate::error::ConfigError;

/// The format of an image. Never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageFormat {
    /// Each byte of the file is the byte of the disk.
    #[default]
    Raw,
    /// qcow2.
    Qcow2,
}

/// What a disk is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layers {
    /// The image's format.
    pub format: ImageFormat,
    /// Whether the image may name backing files.
    pub backing: Backing,
    /// The qcow2 file that receives the guest's writes instead of the image; made if it does not exist.
    pub overlay: Option<PathBuf>,
}

impl Layers {
    /// Checks that the keys of `disk` do not contradict each other.
    ///
    /// # Errors
    ///
    /// The contradiction.
    pub(super) fn check(disk: &DiskConfig) -> Result<(), ConfigError> {
        let Self { format, backing, overlay } = &disk.layers;
        let is_qcow2 = *format == ImageFormat::Qcow2;
        let what = match overlay {
            _ if *backing == Backing::Allow && !is_qcow2 => {
                "backing=allow is for format=qcow2: a raw image names no other file; leave it out"
            }
            Some(_) if disk.snapshot => {
                "overlay= and snapshot=on exclude each other: an overlay keeps the guest's writes, and snapshot=on \
                 drops them; give one of them"
            }
            Some(_) if disk.access == Access::ReadOnly => {
                "overlay= and readonly=on exclude each other: an overlay receives the guest's writes; give one of them"
            }
            None if !is_qcow2 => return Ok(()),
            _ if disk.engine != EngineKind::Sync => {
                "format=qcow2 and overlay= work with engine=sync only; leave engine= out"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::Layers { path: disk.path.clone(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_exclude_each_other_are_named() {
        let disk = |format, backing, overlay: Option<&str>| DiskConfig {
            layers: Layers { format, backing, overlay: overlay.map(PathBuf::from) },
            ..DiskConfig::new("d")
        };
        let (raw, qcow2) = (ImageFormat::Raw, ImageFormat::Qcow2);
        let usual = disk(qcow2, Backing::Allow, Some("o"));
        for good in [
            DiskConfig::new("d"),
            DiskConfig { engine: EngineKind::Uring, ..DiskConfig::new("d") },
            DiskConfig { snapshot: true, ..disk(qcow2, Backing::Refuse, None) },
            DiskConfig { access: Access::ReadOnly, ..disk(qcow2, Backing::Allow, None) },
            disk(raw, Backing::Refuse, Some("o")),
            usual.clone(),
        ] {
            assert!(Layers::check(&good).is_ok(), "{good:?}");
        }
        for (bad, words) in [
            (disk(raw, Backing::Allow, None), "backing=allow is for format=qcow2"),
            (DiskConfig { snapshot: true, ..usual.clone() }, "overlay= and snapshot=on"),
            (DiskConfig { access: Access::ReadOnly, ..usual.clone() }, "overlay= and readonly=on"),
            (DiskConfig { engine: EngineKind::Auto, ..usual }, "engine=sync only"),
        ] {
            let error = Layers::check(&bad).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(words), "{error}");
        }
    }
}
