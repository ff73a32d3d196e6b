//! The configuration of a machine.

pub mod address;
mod bank;
pub mod display;
mod doorbell;
pub(crate) mod ids;
mod layers;
pub(crate) mod limits;
mod user;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::block::nbd::NbdOptions;
use cafevm_devices::block::{Access, Cache, EngineKind, Limits, Opening, Storage};
use cafevm_devices::doctor::Doctor;
use cafevm_devices::observe::Tap;
use cafevm_devices::svirtb;
use cafevm_devices::virtio::blk::BlkOptions;
use cafevm_devices::virtio::gpu::GpuOptions;
use cafevm_devices::virtio::input::InputKind;

use crate::boot::KernelSource;
use crate::config::address::ListenAddress;
use crate::error::ConfigError;
use crate::layout::MIB;

pub use bank::{Slot, VirtioBank};
pub use doorbell::Doorbell;
pub(crate) use doorbell::Server;
pub use layers::{ImageFormat, Layers};
pub use limits::LimitsError;
pub use user::{Display, Peripherals, User};

/// The configuration of a machine. Start from [`VmConfig::new`] and change fields.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// The kernel.
    pub kernel: KernelSource,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line; the words for the virtio devices are appended.
    pub command_line: String,
    /// The disks, in the order in which the guest finds them.
    pub disks: Vec<DiskConfig>,
    /// RAM in bytes: whole pages.
    pub memory: u64,
    /// The number of vCPUs; at least 1.
    pub cpus: u32,
    /// The other virtio devices, in the slots after the disks, in this order.
    pub others: Vec<OtherDevice>,
    /// Gets the input devices and the display before the machine runs.
    pub user: Option<User>,
    /// The virtio slots.
    pub virtio: VirtioBank,
    /// Whether the guest reads registers without an exit where that is possible. For tests.
    pub register_pages: bool,
    /// Where VNC clients connect; needs a GPU.
    pub display: Option<ListenAddress>,
    /// The path of the control socket.
    pub control: Option<PathBuf>,
    /// The time after which the machine is stopped.
    pub timeout: Option<Duration>,
    /// The observers of the devices.
    pub tap: Tap,
    /// Reports accesses to memory without a device, and stalls; attach it to `tap`, too.
    pub doctor: Option<Arc<Doctor>>,
    /// With a doctor: the time without progress after which a stall is reported.
    pub stall: Duration,
    /// An ELF file with the guest's symbols; the kernel if none.
    pub symbols: Option<PathBuf>,
    /// Where a debugger connects; the guest waits for it.
    pub gdb: Option<ListenAddress>,
    /// Where metrics are served over HTTP. Without it, latencies are not measured.
    pub metrics: Option<ListenAddress>,
    /// The device file of KVM.
    pub kvm: PathBuf,
}

impl VmConfig {
    /// A machine with one vCPU and 128 MiB that boots `kernel`.
    pub fn new(kernel: KernelSource) -> Self {
        Self {
            kernel,
            initrd: None,
            command_line: String::new(),
            disks: Vec::new(),
            others: Vec::new(),
            user: None,
            memory: 128 * MIB,
            cpus: 1,
            virtio: VirtioBank::default(),
            register_pages: true,
            display: None,
            control: None,
            timeout: None,
            tap: Tap::default(),
            doctor: None,
            stall: Duration::from_millis(500),
            symbols: None,
            gdb: None,
            metrics: None,
            kvm: PathBuf::from(KVM),
        }
    }

    /// Checks everything that does not depend on the host.
    ///
    /// # Errors
    ///
    /// The first setting that no machine can have.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.cpus == 0 {
            return Err(ConfigError::NoCpus);
        }
        let mut svirtb = self.disks.iter().filter(|d| matches!(d.bus, DiskBus::Svirtb { .. }));
        if let Some(second) = svirtb.nth(1) {
            return Err(ConfigError::SecondSvirtb(second.path.clone()));
        }
        self.virtio.check(self.memory)?;
        if self.control.is_none()
            && let Some(disk) = self.disks.iter().find(|d| d.on_full == OnFull::Stop)
        {
            return Err(ConfigError::StopWithoutControl(disk.path.clone()));
        }
        let contradicts = |d: &&DiskConfig| d.snapshot && d.access == Access::ReadOnly;
        if let Some(disk) = self.disks.iter().find(contradicts) {
            return Err(ConfigError::ReadOnlySnapshot(disk.path.clone()));
        }
        let uncached = |d: &&DiskConfig| d.engine == EngineKind::Mmap && d.cache == Cache::None;
        if let Some(disk) = self.disks.iter().find(uncached) {
            return Err(ConfigError::MmapUncached(disk.path.clone()));
        }
        if self.others.iter().filter(|device| matches!(device, OtherDevice::Gpu(_))).count() > 1 {
            return Err(ConfigError::SecondGpu);
        }
        self.disks.iter().try_for_each(Layers::check)?;
        if let Some(display) = &self.display
            && !self.others.iter().any(|device| matches!(device, OtherDevice::Gpu(_)))
        {
            return Err(ConfigError::DisplayWithoutGpu(display.to_string()));
        }
        if let Some(Err(why)) = self.display.as_ref().map(display::check) {
            return Err(ConfigError::Display(why));
        }
        self.virtio.check_devices(self.virtio_slots().count())?;
        if self.kernel.is_built_in() && self.command_line.matches('"').count() % 2 == 1 {
            return Err(ConfigError::OpenQuote);
        }
        ids::check(&self.disks)
    }

    /// The disks on virtio with their slots, lowest slot first.
    pub fn virtio_disks(&self) -> impl Iterator<Item = (Slot, &DiskConfig)> {
        let disks = self.disks.iter().filter(|d| matches!(d.bus, DiskBus::Virtio(_)));
        (0..).map(|n| self.virtio.slot(n)).zip(disks)
    }

    /// The slots in use, lowest first: those of the disks, then those of the other devices.
    pub fn virtio_slots(&self) -> impl Iterator<Item = Slot> {
        let count = self.virtio_disks().count() + self.others.len();
        (0..).map(|n| self.virtio.slot(n)).take(count)
    }

    /// Whether the guest has a keyboard, and somebody may type on it.
    pub(crate) fn has_other_keyboard(&self) -> bool {
        let somebody = self.display.is_some() || self.control.is_some() || self.user.is_some();
        somebody && self.others.contains(&OtherDevice::Input(InputKind::Keyboard))
    }

    /// The kernel's file, if it is one.
    pub(crate) fn kernel_file(&self) -> Option<&Path> {
        match &self.kernel {
            KernelSource::File(path) => Some(path),
            KernelSource::Bytes { .. } => None,
        }
    }

    /// The files that may have the guest's symbols, the most likely one first.
    pub(crate) fn symbol_files(&self) -> Vec<PathBuf> {
        let kernel = self.kernel_file().map(Path::to_owned);
        self.symbols.iter().cloned().chain(kernel).collect()
    }

    /// The complete command line: the user's text, and the addresses of the virtio devices.
    pub fn whole_command_line(&self) -> String {
        let words = self.virtio_slots().map(|slot| {
            format!("virtio_mmio.device={}@{:#x}:{}", self.virtio.stride, slot.base, slot.irq)
        });
        let text = Some(self.command_line.clone()).filter(|text| !text.is_empty());
        text.into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// The usual device file of KVM.
pub const KVM: &str = "/dev/kvm";

/// A virtio device that is not a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherDevice {
    /// virtio-rng: random bytes of the host.
    Rng,
    /// virtio-input.
    Input(InputKind),
    /// virtio-gpu. A machine has one at most.
    Gpu(GpuOptions),
}

/// The configuration of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// The image.
    pub path: PathBuf,
    /// Whether the guest may write.
    pub access: Access,
    /// Whether the image stays unchanged: the guest's writes are dropped when the machine ends.
    pub snapshot: bool,
    /// The host's cache mode.
    pub cache: Cache,
    /// What moves the bytes.
    pub engine: EngineKind,
    /// Which thread serves its doorbells; on svirtb always the vCPU.
    pub doorbell: Doorbell,
    /// What happens to a write when the host's disk is full.
    pub on_full: OnFull,
    /// How many requests and bytes a second the disk serves; the control socket can change it.
    pub limits: Limits,
    /// The NBD server of the disk; `path` is its URI then.
    pub nbd: Option<NbdOptions>,
    /// The image's format, and the files above and below it.
    pub layers: Layers,
    /// The bus that the disk is attached to.
    pub bus: DiskBus,
    /// Wraps the image's storage, for tests.
    pub storage: Option<WrapStorage>,
}

/// What happens to a write when the host's disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// The guest gets an error.
    #[default]
    Report,
    /// The machine pauses until a client of the control socket resumes it.
    Stop,
}

impl DiskConfig {
    /// The image at `path` for reading and writing, on virtio.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            access: Access::ReadWrite,
            snapshot: false,
            cache: Cache::default(),
            engine: EngineKind::default(),
            doorbell: Doorbell::default(),
            on_full: OnFull::default(),
            limits: Limits::default(),
            nbd: None,
            layers: Layers::default(),
            bus: DiskBus::Virtio(BlkOptions::default()),
            storage: None,
        }
    }

    /// How the image is opened: below a layer, for reading only, and shared with other readers.
    pub fn opening(&self) -> Opening {
        let is_below = self.snapshot || self.layers.overlay.is_some();
        self.cache.opening(if is_below { Access::ReadOnly } else { self.access })
    }
}

/// Wraps the storage of an image, so that a test can observe, delay or fail requests.
#[derive(Clone)]
pub struct WrapStorage(Arc<Wrap>);

type Wrap = dyn Fn(Box<dyn Storage>) -> Box<dyn Storage> + Send + Sync;

impl WrapStorage {
    /// Replaces the storage that it gets by the result of `wrap`.
    pub fn new(
        wrap: impl Fn(Box<dyn Storage>) -> Box<dyn Storage> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(wrap))
    }

    /// The wrapped storage.
    pub(crate) fn wrap(&self, storage: Box<dyn Storage>) -> Box<dyn Storage> {
        (self.0)(storage)
    }
}

impl fmt::Debug for WrapStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrapStorage").finish_non_exhaustive()
    }
}

/// Equal if it is the same object.
impl PartialEq for WrapStorage {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for WrapStorage {}

/// The bus of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskBus {
    /// virtio-blk on virtio-mmio. Without an id the disk gets one made from its number.
    Virtio(BlkOptions),
    /// svirtb, the teaching protocol.
    Svirtb {
        /// The distance of ring entries.
        entry_size: svirtb::EntrySize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::GIB;

    fn config(disks: Vec<DiskConfig>) -> VmConfig {
        VmConfig { disks, ..VmConfig::new(KernelSource::built_in()) }
    }

    fn svirtb() -> DiskConfig {
        let bus = DiskBus::Svirtb { entry_size: svirtb::EntrySize::Auto };
        DiskConfig { bus, ..DiskConfig::new("s.img") }
    }

    #[test]
    fn virtio_disks_are_named_on_the_command_line_lowest_slot_first() {
        let mut config = config(vec![DiskConfig::new("a"), svirtb(), DiskConfig::new("b")]);
        config.command_line = "quiet".to_owned();
        assert_eq!(
            config.whole_command_line(),
            "quiet virtio_mmio.device=512@0xfeb00000:5 virtio_mmio.device=512@0xfeb00200:6"
        );
        config.command_line.clear();
        config.others = vec![OtherDevice::Rng, OtherDevice::Input(InputKind::Mouse)];
        assert_eq!(config.virtio_slots().last(), Some(config.virtio.slot(3)));
        let last = " virtio_mmio.device=512@0xfeb00400:7 virtio_mmio.device=512@0xfeb00600:8";
        assert!(config.whole_command_line().ends_with(last));
        config.others.clear();
        config.disks.truncate(1);
        assert_eq!(config.whole_command_line(), "virtio_mmio.device=512@0xfeb00000:5");
        config.disks.clear();
        assert_eq!(config.whole_command_line(), "");
    }

    #[test]
    fn there_are_19_virtio_disks_and_one_svirtb_disk_at_most() {
        let many = |n| config(vec![DiskConfig::new("a"); n]).check();
        assert!(many(19).is_ok());
        let too_many = |result: Result<(), ConfigError>| result.unwrap_err().to_string();
        let lines = "20 virtio devices (disks, --rng, --input and --gpu) are too many: there are interrupt lines for 19; attach fewer";
        assert_eq!(too_many(many(20)), lines);
        let others = vec![OtherDevice::Gpu(GpuOptions::default())];
        let and_gpu = VmConfig { others, ..config(vec![DiskConfig::new("a"); 19]) }.check();
        assert_eq!(too_many(and_gpu), lines);
        let virtio = VirtioBank { slots: 8, ..VirtioBank::default() };
        let in_8 = VmConfig { virtio, ..config(vec![DiskConfig::new("a"); 9]) }.check();
        let slots = "9 virtio devices (disks, --rng, --input and --gpu) are too many: --virtio-mmio has slots=8; attach fewer";
        assert_eq!(too_many(in_8), slots);
        assert!(config(vec![svirtb(), DiskConfig::new("a")]).check().is_ok());
        assert!(matches!(
            config(vec![svirtb(), svirtb()]).check(),
            Err(ConfigError::SecondSvirtb(_))
        ));
    }

    #[test]
    fn a_display_needs_a_gpu_and_an_address_of_this_host() {
        let with = |address: &str, others| {
            let display = Some(ListenAddress::parse(address).unwrap());
            VmConfig { display, others, ..config(Vec::new()) }.check()
        };
        let gpu = vec![OtherDevice::Gpu(GpuOptions::default())];
        assert!(with("127.0.0.1:5900", gpu.clone()).is_ok());
        for (address, others, says) in [
            (
                "127.0.0.1:5900",
                vec![],
                "--display vnc=127.0.0.1:5900: needs a GPU; add one (--gpu)",
            ),
            ("10.0.0.1:5900", gpu, "--display: 10.0.0.1 is no loopback address"),
        ] {
            let error = with(address, others).unwrap_err();
            assert!(error.is_usage() && error.to_string().starts_with(says), "{error}");
        }
    }

    #[test]
    fn a_bank_elsewhere_must_be_free() {
        let at = |base, memory| {
            let bank = VirtioBank { base, ..VirtioBank::default() };
            VmConfig { virtio: bank, memory, ..config(Vec::new()) }.check().is_ok()
        };
        assert!(at(0x0a00_0000, 128 * MIB));
        assert!(!at(0x0a00_0000, 256 * MIB));
        assert!(!at(0xfec0_0000 - 0x200, MIB));
        assert!(!at(u64::MAX, MIB));
        assert!(!at(5 * GIB, 8 * GIB));
    }
}
