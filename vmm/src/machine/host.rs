//! Opens the host's KVM and checks its capabilities.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm};
use tracing::debug;

use crate::config::KVM;
use crate::error::HostError;
use crate::layout::{HIGH_RAM_START, LOW_RAM_END};
use crate::x86::cpuid;
use crate::x86::msrs;

/// The largest number of vCPUs with APIC ids in the 8 bits of an xAPIC (id 255 addresses all of them).
const MOST_CPUS: usize = 255;

/// KVM on this host.
#[derive(Debug)]
pub(crate) struct Host {
    /// KVM itself.
    pub(crate) kvm: Kvm,
    /// The processor features that KVM supports for a vCPU.
    pub(crate) cpuid: CpuId,
    /// Whether the local APIC has a TSC-deadline timer.
    pub(crate) tsc_deadline: bool,
    /// Whether a vCPU has the MSR IA32_MISC_ENABLE.
    pub(crate) misc_enable: bool,
}

impl Host {
    /// Opens KVM at `path`, usually `/dev/kvm`.
    ///
    /// # Errors
    ///
    /// If it does not exist, may not be used, or is not KVM.
    pub(crate) fn open(path: &Path) -> Result<Self, HostError> {
        let not_kvm = |why: String| HostError::NotKvm { path: path.to_owned(), why };
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| not_kvm("a path has no zero byte".to_owned()))?;
        let kvm = Kvm::new_with_path(&name).map_err(|error| {
            let error = io::Error::from_raw_os_error(error.errno());
            match error.kind() {
                io::ErrorKind::NotFound if path == Path::new(KVM) => {
                    HostError::NoKvm(path.to_owned())
                }
                io::ErrorKind::NotFound => HostError::NoSuchKvm(path.to_owned()),
                io::ErrorKind::PermissionDenied => {
                    HostError::KvmDenied { path: path.to_owned(), remedy: remedy(path) }
                }
                _ => not_kvm(format!("cannot be opened as KVM: {error}")),
            }
        })?;
        match u32::try_from(kvm.get_api_version()) {
            Ok(KVM_API_VERSION) => {}
            Ok(other) => {
                let why = format!(
                    "speaks version {other} of KVM's interface, and cafevm needs {KVM_API_VERSION}; use a newer kernel"
                );
                return Err(not_kvm(why));
            }
            Err(_) => {
                return Err(not_kvm(
                    "is not a KVM device; leave --kvm out, or give the path of one".to_owned(),
                ));
            }
        }
        for (cap, what) in [
            (Cap::UserMemory, "memory slots"),
            (Cap::Irqchip, "an interrupt controller in the kernel"),
            (Cap::Irqfd, "interrupts by eventfd"),
            (Cap::ExtCpuid, "CPUID for guests"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(not_kvm(format!("this KVM lacks {what}; use a newer kernel")));
            }
        }
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(HostError::kvm("list the processor features for guests"))?;
        let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        let misc_enable = msrs::has_misc_enable(&kvm);
        if !misc_enable {
            debug!("this KVM has no IA32_MISC_ENABLE; fast strings stay as they are");
        }
        Ok(Self { kvm, cpuid, tsc_deadline, misc_enable })
    }

    /// Checks that this host supports a machine of this size.
    ///
    /// # Errors
    ///
    /// The resource that is too large, and its maximum.
    pub(crate) fn check(&self, cpus: u32, memory: u64) -> Result<(), HostError> {
        let most = u32::try_from(self.kvm.get_max_vcpus().min(MOST_CPUS)).unwrap_or(u32::MAX);
        if cpus > most {
            return Err(HostError::TooManyCpus { given: cpus, most });
        }
        let bits = cpuid::address_bits(self.cpuid.as_slice());
        let space = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        let most = space.saturating_sub(HIGH_RAM_START - LOW_RAM_END).max(LOW_RAM_END.min(space));
        if memory > most {
            return Err(HostError::MemoryTooLarge { bytes: memory, bits, most });
        }
        Ok(())
    }
}

/// The advice for a user without permission: usually, join the group that owns the device.
fn remedy(path: &Path) -> String {
    let group = std::fs::metadata(path).ok().filter(|m| m.mode() & 0o060 == 0o060).and_then(|m| {
        let groups = std::fs::read_to_string("/etc/group").ok()?;
        group_name(&groups, m.gid())
    });
    match group {
        Some(group) => format!(
            "add yourself to the group '{group}' (sudo usermod -aG {group} $USER) and log in again, or run as root"
        ),
        None => "only its owner may use it: run as root, or change its permissions".to_owned(),
    }
}

/// The name of a group, from the text of /etc/group.
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_to_join_is_named() {
        let groups = "root:x:0:\nkvm:x:104:alice,bob\nusers:x:100:\n";
        assert_eq!(group_name(groups, 104).as_deref(), Some("kvm"));
        assert_eq!(group_name(groups, 4), None);
        assert_eq!(group_name("nonsense\n:::\n", 4), None);
    }

    #[test]
    fn what_is_not_kvm_is_told_from_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Host::open(&dir.path().join("kvm")), Err(HostError::NoSuchKvm(_))));
        assert!(matches!(Host::open(Path::new("/dev/null")), Err(HostError::NotKvm { .. })));
        assert!(matches!(Host::open(dir.path()), Err(HostError::NotKvm { .. })));
    }
}
