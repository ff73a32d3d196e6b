//! A run of a machine, from its configuration to its end.
//!
//! | question | file |
//! |---|---|
//! | How do the threads start? | `start.rs` |
//! | What does the main thread do meanwhile? | `main_thread.rs` |
//! | Which signals end or stop the process? | `signals.rs` |
//! | What memory is given back after the start? | `footprint.rs` |
//! | How do the threads stop, and which does shutdown wait for? | `stop.rs` |

mod footprint;
mod main_thread;
pub mod signals;
pub(crate) mod start;
mod stop;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use cafevm_devices::doctor::Finding;
use tracing::info;

use crate::boot::{Boot, KernelSource, read_initrd};
use crate::config::VmConfig;
use crate::config::address::ListenAddress;
use crate::console::{Input, Output, terminal};
use crate::control;
use crate::display;
use crate::error::{ConfigError, Error, HostError};
use crate::exit::Verdict;
use crate::gdb;
use crate::machine::assembly::Vm;
use crate::machine::host::Host;
use crate::machine::images;
use crate::metrics;
use crate::run::main_thread::MainThread;
use crate::run::signals::Signals;
use crate::run::start::Running;
use crate::runtime::listener::Listener;
use crate::vcpu::debugger::Debugger;
use crate::vcpu::exits::Exits;
use crate::vcpu::place;
pub use crate::waiting::Explanation;
use crate::x86::crash::Cause;

/// The end of the input for the built-in shell: a serial port cannot signal it, so the shell gets EOT (Ctrl-D). EOT
/// ends a line that has begun; on an empty line it ends the shell. Other guests get only their input, and so does a shell
/// that can be typed to in another way.
const END_OF_INPUT: &[u8] = b"\x04\x04";

/// The two ends of the machine's serial port on the host, and the signals.
pub struct Console {
    /// The destination of the guest's output.
    pub output: Output,
    /// The source of the guest's input.
    pub input: Input,
    /// The signals that end the machine; if none, cafevm catches no signal.
    pub signals: Option<Signals>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// How the machine ended.
    pub verdict: Verdict,
    /// The number of exits of all vCPUs.
    pub exits: Exits,
    /// Why the guest waited at the end, if the time limit or Ctrl-A X ended it.
    pub waited: Option<Explanation>,
    /// What may have led to a triple fault; nothing if that is not known.
    pub hints: Vec<String>,
}

impl RunReport {
    /// The exit status of the process.
    pub fn status(&self) -> u8 {
        self.verdict.status()
    }
}

/// Builds the machine, runs it, and releases it.
///
/// Everything is checked before the guest runs and before a file is created: first the configuration, then the files,
/// then the host.
///
/// # Errors
///
/// Why the machine could not run. A guest that crashes is no error: see [`RunReport::verdict`].
pub fn run(config: &VmConfig, console: Console) -> Result<RunReport, Error> {
    config.check()?;
    let kernel = config.kernel.read()?;
    let initrd = config
        .initrd
        .as_deref()
        .map(read_initrd)
        .transpose()
        .map_err(crate::boot::BootError::Read)?;
    let command_line = kernel.command_line(config.whole_command_line());
    let boot = Boot::plan(kernel, initrd, command_line, config.memory)?;
    if let Output::File(path) = &console.output {
        check_serial_file(path, config)?;
    }
    let images = images::open(&config.disks)?;
    let host = Host::open(&config.kvm)?;
    host.check(config.cpus, config.memory)?;
    let vm = Vm::build(config, boot, images, &host)?;

    let control = config.control.as_deref().map(control::listen).transpose()?;
    let metrics = config.metrics.as_ref().map(metrics::listen).transpose()?;
    let gdb = config.gdb.as_ref().map(|address| Debugging::new(address, config)).transpose()?;
    let vnc = config.display.as_ref().map(display::server::listen).transpose()?;
    if matches!(console.input, Input::Stdin) {
        terminal::show_way_out();
    }
    let debugger = gdb.as_ref().map(|gdb| gdb.debugger.clone());
    let (running, jobs, results) =
        Running::start(vm, console.output, config.symbol_files(), debugger, vnc)?;
    let watched = MainThread {
        running: &running,
        input: console.input,
        end_of_input: if config.kernel.is_built_in() && !config.has_other_keyboard() {
            END_OF_INPUT
        } else {
            &[]
        },
        signals: console.signals.as_ref(),
        control,
        metrics,
        gdb,
        timeout: config.timeout,
        doctor: config.doctor.clone().map(|doctor| (doctor, config.stall)),
        jobs,
        results,
    }
    .until_the_end();
    let (ending, examiner) = (running.ending.clone(), running.examiner.clone());
    // A guest that ends by itself waits for nothing.
    let cut = matches!(ending.verdict(), Some(Verdict::TimedOut | Verdict::Quit));
    let exits = running.stop()?;
    watched?;
    info!("{exits}");
    let waited = cut.then(|| examiner.examine_ended());
    let hints = match ending.verdict() {
        Some(Verdict::Crash(crash)) if crash.cause == Cause::TripleFault => {
            examiner.examine_triple_fault(crash.cpu)
        }
        _ => Vec::new(),
    };
    match ending.verdict() {
        Some(verdict) => Ok(RunReport { verdict, exits, waited, hints }),
        None => Err(HostError::Bug("the machine ended without a verdict".to_owned()).into()),
    }
}

/// A debugger that may connect.
struct Debugging {
    listener: Listener,
    address: ListenAddress,
    program: gdb::Program,
    debugger: Arc<Debugger>,
}

impl Debugging {
    fn new(address: &ListenAddress, config: &VmConfig) -> Result<Self, HostError> {
        let listener = Listener::at(address)
            .map_err(|source| HostError::Gdb { address: address.to_string(), source })?;
        let program = gdb::Program::of(&config.symbol_files(), &config.kernel);
        let debugger = Arc::new(Debugger::new(config.cpus)?);
        if let Some(doctor) = &config.doctor {
            let debugger = debugger.clone();
            doctor.listen(move |Finding { device, rule, what, .. }| {
                debugger.found(place::cpu(), format!("cafevm: {}: {device}: {what}", rule.id));
            });
        }
        Ok(Self { listener, address: address.clone(), program, debugger })
    }
}

/// Checks that the console does not write into a file of the machine, or to a block device of the host.
fn check_serial_file(path: &Path, config: &VmConfig) -> Result<(), ConfigError> {
    if std::fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device()) {
        return Err(ConfigError::SerialIsDevice(path.to_owned()));
    }
    let same = |other: &Path| match (std::fs::metadata(path), std::fs::metadata(other)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    let kernel = match &config.kernel {
        KernelSource::File(kernel) => Some(kernel),
        KernelSource::Bytes { .. } => None,
    };
    let disks = config.disks.iter().map(|disk| (&disk.path, "disk"));
    let mut used = disks
        .chain(kernel.map(|kernel| (kernel, "kernel")))
        .chain(config.initrd.as_ref().map(|initrd| (initrd, "initrd")));
    match used.find(|(other, _)| same(other)) {
        Some((_, used_as)) => Err(ConfigError::SerialIsUsed { path: path.to_owned(), used_as }),
        None => Ok(()),
    }
}
