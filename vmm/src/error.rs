//! Why a machine could not run: errors of the configuration and of the host.
//!
//! Every message is one line with the flag or file, the value, the problem, and what to do.

use std::path::PathBuf;

use cafevm_devices::block::ImageError;
use cafevm_devices::block::nbd::NbdError;
use cafevm_devices::bus::BusError;
use cafevm_devices::virtio::blk::BlkError;

use crate::boot::BootError;
use crate::size::Human;

/// Why a machine could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, the initrd, the command line or the memory.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// An image.
    #[error("--disk {0}")]
    Image(#[from] ImageError),
    /// A disk on an NBD server.
    #[error("--disk {0}")]
    Nbd(#[from] NbdError),
    /// The combination of devices.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A wrong configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One image is attached twice, and one of the two disks may write.
    #[error("--disk {}: is attached twice; give each disk an image of its own, or readonly=on or snapshot=on to both", .0.display())]
    SameImage(PathBuf),
    /// Two disks on svirtb.
    #[error("only one disk can have bus=svirtb, as svirtb has one address; {} is the second: give it bus=virtio", .0.display())]
    SecondSvirtb(PathBuf),
    /// More virtio devices than slots or interrupt lines.
    #[error(
        "{given} virtio devices (disks, --rng, --input and --gpu) are too many: {limit}; attach fewer"
    )]
    TooManyDevices {
        /// How many there are.
        given: usize,
        /// What limits them.
        limit: String,
    },
    /// Two GPUs.
    #[error("two GPUs are too many: a machine has one at most")]
    SecondGpu,
    /// A viewer and nothing to see.
    #[error("--display vnc={0}: needs a GPU; add one (--gpu)")]
    DisplayWithoutGpu(String),
    /// A display that other hosts could see.
    #[error("--display: {0}")]
    Display(String),
    /// An open quote in the command line: the built-in shell would read its devices as part of the quoted text.
    #[error(
        "--cmdline: a double quote is not closed, so that the built-in shell would not find its disks; close it, as in 'sh=\"read 0; exit\"'"
    )]
    OpenQuote,
    /// A URL instead of a path.
    #[error("--disk {}: is a URL, and an image is a file; download it, and give the path of the file", .0.display())]
    Url(PathBuf),
    /// Two disks have the same id.
    #[error("--disk {}: its id {id:?} is that of --disk {} too; give each virtio disk an id of its own (id=TEXT)", path.display(), other.display())]
    SameId {
        /// A disk.
        path: PathBuf,
        /// Its id: the one given, or the automatic one, `cafevm-diskN`.
        id: String,
        /// The other disk.
        other: PathBuf,
    },
    /// The id of a disk is the name of another one.
    #[error("--disk {}: its id {id:?} is the name of --disk {} in the log and for the control socket; give another id", path.display(), other.display())]
    IdIsAName {
        /// The disk.
        path: PathBuf,
        /// Its id.
        id: String,
        /// The disk with that name.
        other: PathBuf,
    },
    /// A machine that could stop but never continue.
    #[error("--disk {}: werror=stop needs --control PATH: the machine continues when it receives the message resume there", .0.display())]
    StopWithoutControl(PathBuf),
    /// Both readonly=on and snapshot=on.
    #[error("--disk {}: readonly=on and snapshot=on exclude each other: with snapshot=on the guest may write, and the image does not change; give one of them", .0.display())]
    ReadOnlySnapshot(PathBuf),
    /// Both engine=mmap and cache=none.
    #[error("--disk {}: engine=mmap reads from the host's page cache, which cache=none bypasses; give another cache or another engine", .0.display())]
    MmapUncached(PathBuf),
    /// Keys about formats and layers that exclude each other.
    #[error("--disk {}: {what}", path.display())]
    Layers {
        /// The disk.
        path: PathBuf,
        /// The contradiction, and what to do.
        what: &'static str,
    },
    /// No vCPU.
    #[error("--cpus 0: a machine needs at least 1 vCPU")]
    NoCpus,
    /// The virtio slots overlap something else.
    #[error("--virtio-mmio base={base:#x}: the slots do not fit there: {why}")]
    VirtioBank {
        /// Their first address.
        base: u64,
        /// The conflict.
        why: String,
    },
    /// The console would write into a file of the machine.
    #[error("--serial {}: is already used as the machine's {used_as}; give another file", path.display())]
    SerialIsUsed {
        /// The file.
        path: PathBuf,
        /// "disk", "kernel" or "initrd".
        used_as: &'static str,
    },
    /// The console would write to a device of the host.
    #[error("--serial {}: is a block device, and the console's output would overwrite its content; give a file", .0.display())]
    SerialIsDevice(PathBuf),
    /// An image that is not suitable for a virtio disk.
    #[error("--disk {0}")]
    Blk(#[from] BlkError),
    /// Two devices overlap.
    #[error("the devices do not fit together: {0}")]
    Bus(#[from] BusError),
}

impl ConfigError {
    /// Whether the flags alone are wrong, independent of the host.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::SecondSvirtb(_)
                | Self::TooManyDevices { .. }
                | Self::SecondGpu
                | Self::DisplayWithoutGpu(_)
                | Self::Display(_)
                | Self::OpenQuote
                | Self::VirtioBank { .. }
                | Self::NoCpus
                | Self::StopWithoutControl(_)
                | Self::ReadOnlySnapshot(_)
                | Self::MmapUncached(_)
                | Self::Layers { .. }
                | Self::SameId { .. }
                | Self::IdIsAName { .. }
        )
    }
}

/// An error of the host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// KVM is missing.
    #[error("--kvm {}: does not exist; load the module (modprobe kvm_intel or kvm_amd) and see that virtualization is enabled in the firmware (or, in a virtual machine, nested virtualization by its host)", .0.display())]
    NoKvm(PathBuf),
    /// The path given for KVM does not exist.
    #[error("--kvm {}: no such file; leave --kvm out (KVM is /dev/kvm on Linux), or give the path of a KVM device", .0.display())]
    NoSuchKvm(PathBuf),
    /// No permission to use KVM.
    #[error("--kvm {}: permission denied; {remedy}", path.display())]
    KvmDenied {
        /// The KVM device.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// The file is not KVM, or KVM does not work.
    #[error("--kvm {}: {why}", path.display())]
    NotKvm {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More vCPUs than KVM supports.
    #[error("--cpus {given}: this host's KVM runs at most {most} in one machine; give fewer")]
    TooManyCpus {
        /// The vCPUs asked for.
        given: u32,
        /// The most that KVM supports.
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
    /// The host refuses the memory.
    #[error("--memory {}: the host refuses it ({why}); give less", Human(*bytes))]
    MemoryRefused {
        /// The bytes asked for.
        bytes: u64,
        /// The host's reason.
        why: String,
    },
    /// A call of KVM failed.
    #[error("KVM cannot {what}: {why}")]
    Kvm {
        /// The action that failed.
        what: &'static str,
        /// The host's reason.
        why: String,
    },
    /// The control socket cannot be created.
    #[error("--control {}: cannot listen there: {source}; give a path that is free, in a directory that may be written", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// The socket for gdb cannot be created.
    #[error("--gdb {address}: cannot listen there: {source}; give a port or path that is free")]
    Gdb {
        /// The address.
        address: String,
        /// The host's error.
        source: std::io::Error,
    },
    /// The socket for metrics cannot be created.
    #[error("--metrics {address}: cannot listen there: {source}; give a port or path that is free")]
    Metrics {
        /// The address.
        address: String,
        /// The host's error.
        source: std::io::Error,
    },
    /// The socket for VNC cannot be created.
    #[error(
        "--display vnc={address}: cannot listen there: {source}; give a port or path that is free"
    )]
    Display {
        /// The address.
        address: String,
        /// The host's error.
        source: std::io::Error,
    },
    /// Another call of the host failed.
    #[error("cannot {what}: {source}")]
    Os {
        /// The action that failed.
        what: &'static str,
        /// The host's error.
        source: std::io::Error,
    },
    /// The console's file cannot be opened.
    #[error("--serial {}: cannot be opened: {source}; give a file in a directory that exists and may be written", path.display())]
    SerialFile {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// A thread of cafevm panicked, or an invariant does not hold.
    #[error("a bug in cafevm: {0}")]
    Bug(String),
}

impl HostError {
    /// For `map_err` after a call of KVM.
    pub(crate) fn kvm<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Kvm { what, why: error.to_string() }
    }

    /// For `map_err` after a call of the host.
    pub(crate) fn os<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Os { what, source: error.into() }
    }
}
