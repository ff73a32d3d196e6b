//! Why a machine could not be run: the host's side and the configuration's.
//!
//! Every message is one line that names what failed, the value and the flag or file, and says what to do.

use std::path::PathBuf;

use cafevm_devices::block::ImageError;
use cafevm_devices::bus::BusError;
use cafevm_devices::virtio::blk::BlkError;

use crate::boot::BootError;
use crate::size::Human;

/// Why a machine could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, the initrd, the command line or the memory they need.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// An image.
    #[error("--disk {0}")]
    Image(#[from] ImageError),
    /// How devices are put together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A configuration that no machine can have.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One image for two disks, one of which may write.
    #[error("--disk {}: is attached twice; give each disk an image of its own, or readonly=on or snapshot=on to both", .0.display())]
    SameImage(PathBuf),
    /// svirtb has one address.
    #[error("only one disk can have bus=svirtb, as svirtb has one address; {} is the second: give it bus=virtio", .0.display())]
    SecondSvirtb(PathBuf),
    /// There are not enough slots or interrupt lines for the virtio devices.
    #[error("{given} virtio devices (disks and --rng) are too many: {limit}; attach fewer")]
    TooManyDevices {
        /// How many there are.
        given: usize,
        /// What limits them.
        limit: String,
    },
    /// The built-in shell would find its disks within the quotes.
    #[error(
        "--cmdline: a double quote is not closed, so that the built-in shell would not see where its disks are; close it, as in 'sh=\"read 0; exit\"'"
    )]
    OpenQuote,
    /// A URL in the place of an image's path.
    #[error("--disk {}: is a URL, and an image is a file; download it, and give the path of the file", .0.display())]
    Url(PathBuf),
    /// Two disks with one id.
    #[error("--disk {}: its id {id:?} is that of --disk {} too; give each virtio disk an id of its own (id=TEXT)", path.display(), other.display())]
    SameId {
        /// A disk.
        path: PathBuf,
        /// Its id: the one given, or the automatic one, `cafevm-diskN`.
        id: String,
        /// The other disk.
        other: PathBuf,
    },
    /// A disk with another's name.
    #[error("--disk {}: its id {id:?} is what the log and the control socket call --disk {}; give another id", path.display(), other.display())]
    IdIsAName {
        /// The disk.
        path: PathBuf,
        /// Its id.
        id: String,
        /// The disk with that name.
        other: PathBuf,
    },
    /// A machine that stops and can never go on.
    #[error("--disk {}: werror=stop needs --control PATH, by which the machine is told to go on", .0.display())]
    StopWithoutControl(PathBuf),
    /// A guest that may not write needs no layer for what it writes.
    #[error("--disk {}: readonly=on and snapshot=on exclude each other: with snapshot=on the guest may write, and the image does not change; give one of them", .0.display())]
    ReadOnlySnapshot(PathBuf),
    /// No vCPU.
    #[error("--cpus 0: a machine needs at least 1")]
    NoCpus,
    /// The virtio slots lie where something else is.
    #[error("--virtio-mmio base={base:#x}: the slots do not fit there: {why}")]
    VirtioBank {
        /// Their first address.
        base: u64,
        /// What is in the way.
        why: String,
    },
    /// The console would overwrite a file of the machine.
    #[error("--serial {}: is already used as the machine's {used_as}; give another file", path.display())]
    SerialIsUsed {
        /// The file.
        path: PathBuf,
        /// "disk", "kernel" or "initrd".
        used_as: &'static str,
    },
    /// The console would overwrite a device of the host.
    #[error("--serial {}: is a block device, which the console would overwrite; give a file", .0.display())]
    SerialIsDevice(PathBuf),
    /// An image that cannot be a virtio disk.
    #[error("--disk {0}")]
    Blk(#[from] BlkError),
    /// Two devices at one address.
    #[error("the devices do not fit together: {0}")]
    Bus(#[from] BusError),
}

impl ConfigError {
    /// Whether the flags alone are wrong, whatever the host has.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::SecondSvirtb(_)
                | Self::TooManyDevices { .. }
                | Self::OpenQuote
                | Self::VirtioBank { .. }
                | Self::NoCpus
                | Self::StopWithoutControl(_)
                | Self::ReadOnlySnapshot(_)
                | Self::SameId { .. }
                | Self::IdIsAName { .. }
        )
    }
}

/// The host cannot do what is needed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no KVM.
    #[error("--kvm {}: not there; load the module (modprobe kvm_intel or kvm_amd) and see that virtualization is enabled in the firmware (or, in a virtual machine, nested virtualization by its host)", .0.display())]
    NoKvm(PathBuf),
    /// There is nothing at the path that was given for KVM.
    #[error("--kvm {}: no such file; leave --kvm out (KVM is /dev/kvm on Linux), or give the path of a KVM device", .0.display())]
    NoSuchKvm(PathBuf),
    /// KVM may not be used.
    #[error("--kvm {}: permission denied; {remedy}", path.display())]
    KvmDenied {
        /// The KVM device.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// It is not KVM, or not one that works.
    #[error("--kvm {}: {why}", path.display())]
    NotKvm {
        /// The path given.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More vCPUs than KVM has.
    #[error("--cpus {given}: this host's KVM runs at most {most} in one machine; give fewer")]
    TooManyCpus {
        /// How many there were to be.
        given: u32,
        /// The most there can be.
        most: u32,
    },
    /// More memory than the processor can address.
    #[error("--memory {}: too large; this processor addresses {bits} bits, so that at most {} fit", Human(*bytes), Human(*most))]
    MemoryTooLarge {
        /// The bytes asked for.
        bytes: u64,
        /// The processor's physical address bits.
        bits: u32,
        /// The most bytes of RAM.
        most: u64,
    },
    /// The host did not give the memory.
    #[error("--memory {}: the host refuses it ({why}); give less", Human(*bytes))]
    MemoryRefused {
        /// The bytes asked for.
        bytes: u64,
        /// The host's reason.
        why: String,
    },
    /// A step of building the machine.
    #[error("KVM cannot {what}: {why}")]
    Kvm {
        /// What was tried.
        what: &'static str,
        /// The host's reason.
        why: String,
    },
    /// The control socket cannot be made.
    #[error("--control {}: cannot listen there: {source}; give a path that is free, in a directory that may be written", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// Something else of the host's.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// The host's error.
        source: std::io::Error,
    },
    /// The console's file cannot be written.
    #[error("--serial {}: cannot be opened: {source}; give a file in a directory that exists and may be written", path.display())]
    SerialFile {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// A thread of ours ended by a panic.
    #[error("a bug in cafevm: {0}")]
    Bug(String),
}

impl HostError {
    /// For `map_err` around a call of KVM.
    pub(crate) fn kvm<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Kvm { what, why: error.to_string() }
    }

    /// For `map_err` around a call of the host's system.
    pub(crate) fn os<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Os { what, source: error.into() }
    }
}
