//! Assembly: a machine from its parts, in the order that KVM wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use cafevm_devices::block::Image;
use cafevm_devices::irq::Wake;
use cafevm_devices::serial::Serial;
use cafevm_devices::virtio::mmio::SLOT_SIZE;
use kvm_bindings::CpuId;
use kvm_ioctls::VmFd;
use tracing::{debug, info, warn};

use crate::boot::{Boot, BootError, Entry};
use crate::config::VmConfig;
use crate::console::Output;
use crate::console::output::Draining;
use crate::error::{Error, HostError};
use crate::layout::{COM1_IRQ, KVM_TSS};
use crate::machine::attach::{self, Attached, Surroundings};
use crate::machine::disks::Disks;
use crate::machine::host::Host;
use crate::machine::irq;
use crate::machine::memory;
use crate::runtime::io_thread::IoThread;
use crate::runtime::jobs::{Done, Job, Jobs, Unsettled};
use crate::size::Human;
use crate::threads::ending::Ending;
use crate::threads::gate::Gate;
use crate::threads::mailbox::{Inbox, Outbox, mailbox};
use crate::threads::roll::Roll;
use crate::threads::wake::WakeFd;
use crate::vcpu::dispatch::Buses;
use crate::vcpu::thread::{self, Vcpu, VcpuThread};
use crate::x86::acpi::{self, Machine};
use crate::x86::cpu_state;
use crate::x86::cpuid;
use crate::x86::msrs;
use crate::x86::restart::{self, Judge};

/// A machine that is built and does not run yet.
pub(crate) struct Vm {
    vcpus: Vec<Vcpu>,
    buses: Buses,
    vm: Arc<VmFd>,
    attached: Attached,
    leftover: Arc<WakeFd>,
    taken_over: Arc<WakeFd>,
    gate: Arc<Gate>,
    /// Whether the guest is known to be Linux.
    linux: bool,
    pub(crate) ending: Arc<Ending>,
}

/// A machine that runs.
pub(crate) struct Running {
    /// The vCPUs, each with its name in the roll.
    pub(crate) threads: Vec<(String, VcpuThread)>,
    pub(crate) io: JoinHandle<Result<(), HostError>>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) disks: Disks,
    /// Whether the guest is known to be Linux.
    pub(crate) linux: bool,
    pub(crate) gate: Arc<Gate>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) serial: Arc<Mutex<Serial>>,
    /// What writes the guest's output, unless the vCPUs do.
    pub(crate) output: Option<Draining>,
    /// Woken when the serial port has room for input again.
    pub(crate) drained: Arc<WakeFd>,
    /// The interrupts' wiring ends with it.
    _vm: Arc<VmFd>,
}

impl Vm {
    /// Builds the machine, all but its console.
    ///
    /// # Errors
    ///
    /// What the host does not give.
    pub(crate) fn build(
        config: &VmConfig,
        boot: Boot,
        images: Vec<Image>,
        host: &Host,
    ) -> Result<Self, Error> {
        let vm = Arc::new(host.kvm.create_vm().map_err(HostError::kvm("create a machine"))?);
        vm.set_tss_address(KVM_TSS).map_err(HostError::kvm("place its TSS"))?;
        // Before the interrupt controllers: a memory slot made after them waits for milliseconds.
        let ram = memory::allocate(config.memory)?;
        memory::map(&vm, &ram)?;
        vm.create_irq_chip().map_err(HostError::kvm("create interrupt controllers"))?;
        describe(config, &boot);

        let start = boot.load(&ram)?;
        let slots = config.virtio_disks().map(|(slot, _)| slot).collect();
        let machine = Machine { cpus: config.cpus, slots, slot_size: SLOT_SIZE };
        acpi::write(&ram, &machine).and_then(|()| restart::write(&ram)).map_err(BootError::Load)?;
        let linux = boot.kernel().linux.is_some();
        let judge = Judge::new(linux, boot.command_line());
        // It may be large, and was only a source.
        drop(boot);
        let vcpus = (0..config.cpus)
            .map(|id| {
                let fd = vm.create_vcpu(u64::from(id)).map_err(HostError::kvm("create a vCPU"))?;
                let entries =
                    cpuid::for_vcpu(host.cpuid.as_slice(), id, config.cpus, host.tsc_deadline);
                let cpuid = CpuId::from_entries(&entries).map_err(|error| HostError::Kvm {
                    what: "take CPUID",
                    why: format!("{error:?}"),
                })?;
                fd.set_cpuid2(&cpuid).map_err(HostError::kvm("take CPUID"))?;
                if host.misc_enable {
                    msrs::enable_fast_strings(&fd, id);
                }
                if id == 0 {
                    cpu_state::set(&fd, start)?;
                }
                Ok(Vcpu::new(id, fd, ram.clone(), judge))
            })
            .collect::<Result<Vec<_>, HostError>>()?;

        let mut buses = Buses::default();
        buses.unclaimed.looks_for_svirtb = config.kernel.is_built_in();
        let ending = Arc::new(Ending::new()?);
        let (leftover, taken_over) = (Arc::new(WakeFd::new()?), Arc::new(WakeFd::new()?));
        let gate = Arc::new(Gate::new()?);
        let around = Surroundings {
            vm: &vm,
            ram: &ram,
            leftover: &leftover,
            taken_over: &taken_over,
            gate: &gate,
        };
        let attached = attach::attach_disks(&mut buses, config, images, &around)?;
        Ok(Self { vcpus, buses, vm, attached, leftover, taken_over, gate, linux, ending })
    }

    /// Opens the console and lets the vCPUs run; with the machine, how jobs are sent to its I/O thread, and where their
    /// results come.
    ///
    /// # Errors
    ///
    /// Where the console cannot be opened, or the host gives no thread.
    pub(crate) fn start(
        mut self,
        output: Output,
    ) -> Result<(Running, Outbox<Job>, Inbox<Done>), Error> {
        let drained = Arc::new(WakeFd::new()?);
        let wake = drained.clone();
        let line = irq::pulses(&self.vm, COM1_IRQ)?;
        // Only now, that nothing else can go wrong: a file is made here.
        let (output, drain) = output.open()?;
        let serial = Serial::new(output, line, Box::new(move || wake.wake()));
        let serial = Arc::new(Mutex::new(serial));
        let port = Arc::downgrade(&serial);
        let eased = move || {
            if let Some(port) = port.upgrade() {
                port.lock().unwrap_or_else(PoisonError::into_inner).output_has_room();
            }
        };
        let output = drain.map(|drain| drain.start(eased)).transpose()?;
        attach::attach_serial(&mut self.buses, serial.clone())?;
        debug!("memory bus: {:x?}; ports: {:x?}", self.buses.mmio, self.buses.pio);

        let Attached { disks, pages } = self.attached;
        let machine = thread::Machine {
            buses: Arc::new(self.buses),
            ending: self.ending,
            gate: self.gate,
            roll: Arc::default(),
        };
        let ((to_jobs, inbox), (results, from_jobs)) = (mailbox()?, mailbox()?);
        let jobs = Jobs {
            disks: disks.clone(),
            pages: Arc::new(Mutex::new(pages)),
            gate: machine.gate.clone(),
            unsettled: Arc::new(Unsettled::new()?),
            inbox,
            results,
        };
        let io = IoThread {
            ending: machine.ending.clone(),
            roll: machine.roll.clone(),
            leftover: self.leftover,
            taken_over: self.taken_over,
            jobs,
        };
        let mut running = Running {
            threads: Vec::new(),
            io: io.spawn()?,
            roll: machine.roll.clone(),
            disks,
            linux: self.linux,
            gate: machine.gate.clone(),
            ending: machine.ending.clone(),
            serial,
            output,
            drained,
            _vm: self.vm,
        };
        for vcpu in self.vcpus {
            let name = vcpu.name();
            match vcpu.spawn(&machine) {
                Ok(thread) => running.threads.push((name, thread)),
                Err(error) => {
                    running.stop()?;
                    return Err(error.into());
                }
            }
        }
        Ok((running, to_jobs, from_jobs))
    }
}

impl Running {
    /// Makes each vCPU look what is asked of it.
    pub(crate) fn kick(&self) {
        for (_, thread) in &self.threads {
            thread.kick();
        }
    }
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
