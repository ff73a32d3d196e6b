//! Assembles a machine from its parts, in the order that KVM requires.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cafevm_devices::memory::GuestRam;
use cafevm_devices::virtio::mmio::SLOT_SIZE;
use kvm_bindings::CpuId;
use kvm_ioctls::{VcpuFd, VmFd};
use tracing::{info, warn};

use crate::boot::{Boot, BootError, Entry, Start};
use crate::config::VmConfig;
use crate::error::{Error, HostError};
use crate::layout::KVM_TSS;
use crate::machine::attach::{self, Attached, Surroundings};
use crate::machine::host::Host;
use crate::machine::images::Opened;
use crate::machine::memory;
use crate::size::Human;
use crate::threads::ending::Ending;
use crate::threads::gate::Gate;
use crate::threads::pacer::Pacer;
use crate::threads::wake::WakeFd;
use crate::vcpu::dispatch::Buses;
use crate::vcpu::thread::Vcpu;
use crate::x86::acpi::{self, Machine};
use crate::x86::restart::{self, Judge};
use crate::x86::{cpu_state, cpuid, msrs};

/// A complete machine that does not run yet. It has no console.
pub(crate) struct Vm {
    pub(crate) fd: Arc<VmFd>,
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) buses: Buses,
    pub(crate) attached: Attached,
    /// Woken when a doorbell leaves work for the I/O thread.
    pub(crate) leftover: Arc<WakeFd>,
    /// Woken when a driver completes its handshake.
    pub(crate) handshake: Arc<WakeFd>,
    pub(crate) gate: Arc<Gate>,
    /// The time for the limits of disks.
    pub(crate) pacer: Arc<Pacer>,
    /// Whether the guest is known to be Linux.
    pub(crate) linux: bool,
    pub(crate) ending: Arc<Ending>,
    pub(crate) ram: GuestRam,
}

impl Vm {
    /// Builds the machine, except for its console.
    ///
    /// # Errors
    ///
    /// The resource that the host does not provide.
    pub(crate) fn build(
        config: &VmConfig,
        boot: Boot,
        images: Vec<Opened>,
        host: &Host,
    ) -> Result<Self, Error> {
        let (fd, ram, creation) = with_memory(config, host)?;
        describe(config, &boot);
        info!("{creation}");
        let linux = boot.kernel().linux.is_some();
        let judge = Judge::new(linux, boot.command_line());
        let start = load(config, &boot, &ram)?;
        // Drop the kernel's file: its content is in RAM now.
        drop(boot);
        let vcpus = make_vcpus(config, host, &fd, start)?;
        let vcpus = (0..).zip(vcpus).map(|(id, vcpu)| Vcpu::new(id, vcpu, ram.clone(), judge));

        let mut buses = Buses::observed(&config.tap);
        buses.unclaimed.looks_for_svirtb = config.kernel.is_built_in();
        buses.unclaimed.doctor.clone_from(&config.doctor);
        let (leftover, handshake) = (Arc::new(WakeFd::new()?), Arc::new(WakeFd::new()?));
        let gate = Arc::new(Gate::new()?);
        let pacer = Arc::new(Pacer::new(gate.clone())?);
        let around = Surroundings {
            vm: &fd,
            ram: &ram,
            leftover: &leftover,
            handshake: &handshake,
            gate: &gate,
            pacer: &pacer,
        };
        let attached = attach::attach_devices(&mut buses, config, images, &around)?;
        let (vcpus, ending) = (vcpus.collect(), Arc::new(Ending::new()?));
        Ok(Self {
            fd,
            vcpus,
            buses,
            attached,
            leftover,
            handshake,
            gate,
            pacer,
            linux,
            ending,
            ram,
        })
    }
}

/// A machine with RAM and interrupt controllers.
fn with_memory(
    config: &VmConfig,
    host: &Host,
) -> Result<(Arc<VmFd>, GuestRam, CreateTime), HostError> {
    let begin = Instant::now();
    let vm = host.kvm.create_vm().map_err(HostError::kvm("create a machine"))?;
    let creation = CreateTime(begin.elapsed());
    vm.set_tss_address(KVM_TSS).map_err(HostError::kvm("place its TSS"))?;
    // Before the interrupt controllers: a memory slot created after them waits for milliseconds.
    let ram = memory::allocate(config.memory)?;
    memory::map(&vm, &ram)?;
    vm.create_irq_chip().map_err(HostError::kvm("create interrupt controllers"))?;
    Ok((Arc::new(vm), ram, creation))
}

/// How long KVM_CREATE_VM took, for the log.
struct CreateTime(Duration);

impl fmt::Display for CreateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More than a KVM needs that waits for nothing.
        const LONG: Duration = Duration::from_millis(5);
        write!(f, "KVM created the machine in {:.1} ms", self.0.as_secs_f64() * 1e3)?;
        if self.0 < LONG {
            return Ok(());
        }
        // KVM starts a thread and moves it into the cgroups of its process, which waits for a grace period of RCU.
        f.write_str(
            "; in a cgroup this may be the move of KVM's thread: mount the cgroup file system with the option favordynmods",
        )
    }
}

/// Writes the kernel and the tables of a PC's firmware into RAM.
fn load(config: &VmConfig, boot: &Boot, ram: &GuestRam) -> Result<Start, Error> {
    let start = boot.load(ram)?;
    let slots = config.virtio_slots().collect();
    let machine = Machine { cpus: config.cpus, slots, slot_size: SLOT_SIZE };
    acpi::write(ram, &machine).and_then(|()| restart::write(ram)).map_err(BootError::Load)?;
    Ok(start)
}

/// Creates the vCPUs. The first one begins at `start`; the others wait until the guest starts them.
fn make_vcpus(
    config: &VmConfig,
    host: &Host,
    vm: &VmFd,
    start: Start,
) -> Result<Vec<VcpuFd>, HostError> {
    (0..config.cpus)
        .map(|id| {
            let vcpu = vm.create_vcpu(u64::from(id)).map_err(HostError::kvm("create a vCPU"))?;
            let entries =
                cpuid::for_vcpu(host.cpuid.as_slice(), id, config.cpus, host.tsc_deadline);
            let cpuid = CpuId::from_entries(&entries).map_err(|error| HostError::Kvm {
                what: "take CPUID",
                why: format!("{error:?}"),
            })?;
            vcpu.set_cpuid2(&cpuid).map_err(HostError::kvm("take CPUID"))?;
            if host.misc_enable {
                msrs::enable_fast_strings(&vcpu, id);
            }
            if id == 0 {
                cpu_state::set(&vcpu, start)?;
            }
            Ok(vcpu)
        })
        .collect()
}

fn describe(config: &VmConfig, boot: &Boot) {
    let kernel = boot.kernel();
    let entry = match kernel.entry {
        Entry::Pvh(addr) | Entry::Long(addr) => addr,
    };
    info!("memory: {}; vCPUs: {}", Human(config.memory), config.cpus);
    info!("kernel {}: {} at {entry:#x}", kernel.name, kernel.kind);
    info!("command line: {}", boot.command_line());
    if let Some(warning) = boot.beyond_reach() {
        warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_creation_has_a_hint() {
        let text = |millis| CreateTime(Duration::from_millis(millis)).to_string();
        assert_eq!(text(1), "KVM created the machine in 1.0 ms");
        assert!(text(27).starts_with("KVM created the machine in 27.0 ms; "), "{}", text(27));
        assert!(text(27).contains("favordynmods"));
    }
}
