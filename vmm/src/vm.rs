//! Assembly: a machine from its parts, in the order that KVM wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cafevm_devices::block::Image;
use cafevm_devices::serial::Serial;
use cafevm_devices::svirtb;
use cafevm_devices::virtio::mmio::{Mmio, SLOT_SIZE};
use kvm_bindings::CpuId;
use kvm_ioctls::VmFd;
use tracing::{debug, info, warn};

use crate::acpi::{self, Machine};
use crate::attach::{self, Attached, Surroundings};
use crate::boot::{Boot, BootError, Entry};
use crate::config::VmConfig;
use crate::console::Output;
use crate::control::{ControlSocket, Controlled};
use crate::cpu_state;
use crate::cpuid;
use crate::dispatch::{Buses, Exits};
use crate::error::{Error, HostError};
use crate::event::Event;
use crate::exit::Verdict;
use crate::host::Host;
use crate::io_loop::IoLoop;
use crate::layout::{COM1_IRQ, KVM_TSS};
use crate::memory;
use crate::milestones;
use crate::pause::Pause;
use crate::restart::{self, Judge};
use crate::size::Human;
use crate::vcpu::{Ending, Vcpu, VcpuThread};
use crate::wiring;

/// How long vCPUs may take to stop before they are left behind.
const STOPPING: Duration = Duration::from_secs(5);

/// A machine that is built and does not run yet.
pub(crate) struct Vm {
    vcpus: Vec<Vcpu>,
    buses: Buses,
    vm: Arc<VmFd>,
    attached: Attached,
    helper: Arc<Event>,
    pause: Arc<Pause>,
    /// Whether the guest is known to be Linux.
    linux: bool,
    pub(crate) ending: Arc<Ending>,
}

/// A machine that runs.
pub(crate) struct Running {
    threads: Vec<VcpuThread>,
    /// The thread beside the vCPUs.
    io: Option<JoinHandle<()>>,
    stops: Vec<svirtb::Stop>,
    /// The disks that a Linux guest should use.
    expected: Vec<(String, Arc<Mutex<Mmio>>)>,
    pub(crate) pause: Arc<Pause>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) serial: Arc<Mutex<Serial>>,
    /// Readable when the serial port has room for input again.
    pub(crate) drained: Arc<Event>,
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
                if id == 0 {
                    cpu_state::set(&fd, start)?;
                }
                Ok(Vcpu::new(id, fd, ram.clone(), judge))
            })
            .collect::<Result<Vec<_>, HostError>>()?;

        let mut buses = Buses::default();
        let ending = Arc::new(Ending::new()?);
        let (helper, pause) = (Arc::new(Event::new()?), Arc::new(Pause::new(ending.clone())?));
        let around = Surroundings { vm: &vm, ram: &ram, helper: &helper, pause: &pause };
        let attached = attach::attach_disks(&mut buses, config, images, &around)?;
        Ok(Self { vcpus, buses, vm, attached, helper, pause, linux, ending })
    }

    /// Opens the console and lets the vCPUs run.
    ///
    /// # Errors
    ///
    /// Where the console cannot be opened, or the host gives no thread.
    pub(crate) fn start(
        mut self,
        output: Output,
        control: Option<ControlSocket>,
    ) -> Result<Running, Error> {
        let drained = Arc::new(Event::new()?);
        let tell = drained.clone();
        let line = wiring::line(&self.vm, COM1_IRQ)?;
        // Only now, that nothing else can go wrong: a file is made here.
        let output = milestones::watch(output.open(&self.ending)?);
        let serial = Serial::new(output, line, Box::new(move || tell.tell()));
        let serial = Arc::new(Mutex::new(serial));
        attach::attach_serial(&mut self.buses, serial.clone())?;
        debug!("memory bus: {:x?}; ports: {:x?}", self.buses.mmio, self.buses.pio);

        let buses = Arc::new(self.buses);
        let Attached { disks, pages, stops } = self.attached;
        let expected = disks.iter().filter(|_| self.linux);
        let expected = expected.map(|disk| (disk.name.clone(), disk.device.clone())).collect();
        let io = IoLoop {
            ending: self.ending.clone(),
            helper: self.helper,
            controlled: Controlled { disks, pages, pause: self.pause.clone() },
            control,
        };
        let mut running = Running {
            threads: Vec::new(),
            io: Some(io.spawn()?),
            stops,
            expected,
            pause: self.pause,
            ending: self.ending,
            serial,
            drained,
            _vm: self.vm,
        };
        for vcpu in self.vcpus {
            match vcpu.spawn(buses.clone(), running.ending.clone(), running.pause.clone()) {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    running.stop()?;
                    return Err(error.into());
                }
            }
        }
        Ok(running)
    }
}

impl Running {
    /// Makes each vCPU that runs look what is asked of it. One that was just about to run may miss it.
    pub(crate) fn kick(&self) {
        for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
            thread.kick();
        }
    }

    /// Whether all vCPUs wait for the machine to go on.
    pub(crate) fn is_parked(&self) -> bool {
        self.pause.parked() >= self.threads.len()
    }

    /// Stops all vCPUs and waits for them; how often the guest left to us.
    ///
    /// # Errors
    ///
    /// Where one of their threads panicked.
    pub(crate) fn stop(mut self) -> Result<Exits, HostError> {
        self.ending.stop();
        for stop in &self.stops {
            stop.stop();
        }
        // First: what is controlled from there belongs to the vCPUs, too.
        if self.io.take().is_some_and(|io| io.join().is_err()) {
            return Err(HostError::Bug("the thread beside the vCPUs panicked".to_owned()));
        }
        let give_up = Instant::now() + STOPPING;
        let mut pause = Duration::from_micros(50);
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < give_up {
            self.kick();
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        let mut exits = Exits::default();
        for thread in self.threads {
            if thread.is_finished() {
                exits = exits.plus(thread.join()?);
            } else {
                warn!("a vCPU does not stop, as the host keeps it waiting; it is left behind");
            }
        }
        let ended_itself = matches!(
            self.ending.verdict(),
            Some(Verdict::PowerOff | Verdict::Reset | Verdict::Crash(_))
        );
        for (name, disk) in self.expected.iter().filter(|_| ended_itself) {
            if !disk.lock().unwrap_or_else(PoisonError::into_inner).was_used() {
                warn!(
                    "the guest never used {name}: no driver took it over; its kernel needs VIRTIO_MMIO and VIRTIO_BLK, \
                     built in or as modules in the initrd"
                );
            }
        }
        Ok(exits)
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
