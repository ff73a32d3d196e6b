//! The start of a machine's threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use cafevm_devices::irq::Wake;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::serial::Serial;
use kvm_ioctls::VmFd;
use tracing::debug;

use crate::config::{Peripherals, Server};
use crate::console::Output;
use crate::console::output::Draining;
use crate::display::hands::Hands;
use crate::display::server::{self, VncServer};
use crate::error::{Error, HostError};
use crate::layout::COM1_IRQ;
use crate::machine::assembly::Vm;
use crate::machine::attach::{self, Attached};
use crate::machine::devices::Devices;
use crate::machine::doorbells::RungDisk;
use crate::machine::irq;
use crate::runtime::io_thread::{self, IoThread};
use crate::runtime::jobs::{Jobs, Unsettled};
use crate::runtime::listener::Listener;
use crate::runtime::messages::{Done, Job};
use crate::runtime::nbd;
use crate::runtime::rung::Rung;
use crate::threads::ending::Ending;
use crate::threads::gate::Gate;
use crate::threads::mailbox::{Inbox, Outbox, mailbox};
use crate::threads::roll::Roll;
use crate::threads::wake::WakeFd;
use crate::vcpu::debugger::Debugger;
use crate::vcpu::snapshot::Snapshots;
use crate::vcpu::thread::{Machine, VcpuThread};
use crate::waiting::Examiner;

/// A running machine.
pub(crate) struct Running {
    /// The vCPUs, each with its entry in the roll.
    pub(crate) threads: Vec<(String, VcpuThread)>,
    /// The I/O thread, and the threads for doorbells, NBD servers and the display, each with its entry in the roll.
    pub(crate) workers: Vec<(String, JoinHandle<Result<(), HostError>>)>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) devices: Devices,
    /// Whether the guest is known to be Linux.
    pub(crate) linux: bool,
    pub(crate) gate: Arc<Gate>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) serial: Arc<Mutex<Serial>>,
    /// The thread that writes the guest's output, unless the vCPUs write it.
    pub(crate) output: Option<Draining>,
    /// Woken when the serial port has room for input.
    pub(crate) drained: Arc<WakeFd>,
    /// Explains why the guest waits.
    pub(crate) examiner: Examiner,
    /// With --gdb.
    pub(crate) debugger: Option<Arc<Debugger>>,
    pub(crate) ram: GuestRam,
    /// Keeps the interrupts connected.
    _vm: Arc<VmFd>,
}

/// The guest's console, connected to the host.
struct Connected {
    serial: Arc<Mutex<Serial>>,
    output: Option<Draining>,
    drained: Arc<WakeFd>,
}

impl Running {
    /// Opens the console and starts all threads; `symbols` are files that may have the guest's symbols. Also returns the
    /// sender of jobs for the I/O thread and the receiver of their results.
    ///
    /// # Errors
    ///
    /// If the console cannot be opened, or the host cannot create a thread.
    pub(crate) fn start(
        vm: Vm,
        output: Output,
        symbols: Vec<PathBuf>,
        debugger: Option<Arc<Debugger>>,
        vnc: Option<Listener>,
    ) -> Result<(Self, Outbox<Job>, Inbox<Done>), Error> {
        let Vm {
            fd,
            vcpus,
            mut buses,
            attached,
            leftover,
            handshake,
            gate,
            pacer,
            linux,
            ending,
            ram,
        } = vm;
        let Connected { serial, output, drained } = connect(&fd, output)?;
        attach::attach_serial(&mut buses, serial.clone())?;
        debug!("memory bus: {:x?}; ports: {:x?}", buses.mmio, buses.pio);

        let Attached { devices, pages, doorbells } = attached;
        let (vm, snapshots) = (fd.clone(), Snapshots::default());
        let examiner =
            Examiner { vm, devices: devices.clone(), snapshots, cpus: vcpus.len(), symbols };
        let roll = Arc::<Roll>::default();
        let ((to_jobs, inbox), (results, from_jobs)) = (mailbox()?, mailbox()?);
        let jobs = Jobs {
            devices: devices.clone(),
            pages: Arc::new(Mutex::new(pages)),
            gate: gate.clone(),
            unsettled: Arc::new(Unsettled::new()?),
            inbox,
            results,
        };
        let (of_io, of_vcpus) = (ending.clone(), ending.clone());
        let own_thread = |disk: &&RungDisk| matches!(disk.by, Server::OwnThread { .. });
        let own_threads: Vec<_> = doorbells.disks.iter().filter(own_thread).cloned().collect();
        let io = IoThread {
            ending: of_io,
            roll: roll.clone(),
            leftover,
            handshake,
            pacer,
            doorbells,
            jobs,
        };
        let machine = Machine {
            buses: Arc::new(buses),
            ending: of_vcpus,
            gate: gate.clone(),
            roll: roll.clone(),
            snapshots: examiner.snapshots.clone(),
            debugger,
        };
        let workers = vec![(io_thread::NAME.to_owned(), io.spawn()?)];
        let mut running = Self {
            threads: Vec::new(),
            workers,
            roll,
            devices,
            linux,
            gate,
            ending,
            serial,
            output,
            drained,
            examiner,
            debugger: machine.debugger.clone(),
            ram,
            _vm: fd,
        };
        let links = running.devices.links.clone().into_iter();
        let links = links.map(|link| nbd::spawn(link, &running.ending, &running.roll));
        let bells = own_threads.into_iter();
        let bells = bells.map(|disk| Rung::spawn(disk, &running.ending, &running.roll));
        for worker in links.chain(bells).collect::<Vec<_>>() {
            match worker {
                Ok(worker) => running.workers.push(worker),
                Err(error) => {
                    running.stop()?;
                    return Err(error.into());
                }
            }
        }
        if let Err(error) = running.serve_vnc(vnc) {
            running.stop()?;
            return Err(error.into());
        }
        for vcpu in vcpus {
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

    /// Starts the VNC server, if there is one.
    fn serve_vnc(&mut self, listener: Option<Listener>) -> Result<(), HostError> {
        let Peripherals { inputs, display } = &self.devices.peripherals;
        if let (Some(listener), Some(display)) = (listener, display.clone()) {
            let (screen, hands) = (display.screen(), Hands::of(inputs));
            let resize = Arc::new(move |width, height| display.set_size(width, height));
            let server = VncServer { listener, screen, hands, resize };
            let thread = server.spawn(self.ending.clone(), &self.roll)?;
            self.workers.push((server::NAME.to_owned(), thread));
        }
        Ok(())
    }

    /// Makes each vCPU check the gate and whether the machine has ended.
    pub(crate) fn kick(&self) {
        for (_, thread) in &self.threads {
            thread.kick();
        }
    }
}

/// Opens the console's output and connects it to the serial port.
fn connect(vm: &VmFd, output: Output) -> Result<Connected, HostError> {
    let drained = Arc::new(WakeFd::new()?);
    let wake = drained.clone();
    let line = irq::pulses(vm, COM1_IRQ)?;
    // As late as possible: this creates the file.
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
    Ok(Connected { serial, output, drained })
}
