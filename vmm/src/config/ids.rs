//! The names and ids of virtio disks, for the log, the guest and the control socket.

use cafevm_devices::virtio::blk::BlkOptions;

use crate::config::{DiskBus, DiskConfig};
use crate::error::ConfigError;

/// The name of virtio disk `number` in the log.
pub(crate) fn name(number: u32) -> String {
    format!("virtio{number}")
}

/// The id of virtio disk `number`: the configured one, or one made from the number.
pub(crate) fn id(number: u32, options: &BlkOptions) -> String {
    if options.id.is_empty() { format!("cafevm-disk{number}") } else { options.id.clone() }
}

/// Checks that no id is also the id or the name of another disk: the control socket accepts both.
///
/// # Errors
///
/// The first disk with an id that is also that of another disk, or its name.
pub(crate) fn check(disks: &[DiskConfig]) -> Result<(), ConfigError> {
    let virtio = disks.iter().filter_map(|disk| match &disk.bus {
        DiskBus::Virtio(options) => Some((disk, options)),
        DiskBus::Svirtb { .. } => None,
    });
    let known: Vec<_> = (0..)
        .zip(virtio)
        .map(|(number, (disk, options))| (disk, id(number, options), name(number)))
        .collect();
    for (n, (disk, id, _)) in known.iter().enumerate() {
        let others = || known.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, other)| other);
        let (path, id) = (disk.path.clone(), id.clone());
        if let Some((other, ..)) = others().find(|(_, _, other)| *other == id) {
            return Err(ConfigError::IdIsAName { path, id, other: other.path.clone() });
        }
        if let Some((other, ..)) = others().find(|(_, other, _)| *other == id) {
            return Err(ConfigError::SameId { path, id, other: other.path.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::KernelSource;
    use crate::config::VmConfig;
    use cafevm_devices::svirtb::EntrySize;

    fn checked(ids: &[&str]) -> Result<(), ConfigError> {
        let disks = ids.iter().zip('a'..).map(|(id, path)| {
            let options = BlkOptions { id: (*id).to_owned(), ..BlkOptions::default() };
            DiskConfig { bus: DiskBus::Virtio(options), ..DiskConfig::new(path.to_string()) }
        });
        let disks = disks.collect();
        VmConfig { disks, ..VmConfig::new(KernelSource::built_in()) }.check()
    }

    #[test]
    fn an_id_means_one_disk() {
        for ids in [&["x", "x"][..], &["cafevm-disk1", ""], &["", "cafevm-disk0"], &["", "y", "y"]]
        {
            let error = checked(ids).unwrap_err();
            assert!(matches!(error, ConfigError::SameId { .. }), "{ids:?}: {error}");
            assert!(error.is_usage());
        }
        for ids in [&["virtio1", ""][..], &["", "virtio0"], &["virtio1", "virtio0"]] {
            let error = checked(ids).unwrap_err();
            assert!(matches!(error, ConfigError::IdIsAName { .. }), "{ids:?}: {error}");
            assert!(error.is_usage());
        }
    }

    #[test]
    fn its_own_name_and_those_of_no_disk_are_free() {
        for ids in [&["", "", ""][..], &["virtio0", "virtio1"], &["virtio2", "cafevm-disk7"]] {
            assert!(checked(ids).is_ok(), "{ids:?}");
        }
    }

    #[test]
    fn an_svirtb_disk_has_neither_and_takes_no_number() {
        let bus = DiskBus::Svirtb { entry_size: EntrySize::Auto };
        let options = BlkOptions { id: "virtio1".to_owned(), ..BlkOptions::default() };
        let mut disks = vec![
            DiskConfig { bus, ..DiskConfig::new("s") },
            DiskConfig { bus: DiskBus::Virtio(options), ..DiskConfig::new("a") },
        ];
        assert!(check(&disks).is_ok());
        disks.push(DiskConfig::new("b"));
        assert!(check(&disks).is_err());
    }
}
