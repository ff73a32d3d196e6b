//! Why a guest waits: the devices, the interrupt controllers and the vCPUs at one moment, in words.
//!
//! It works without an observer, so a guest that ran for hours can be examined: at the end by `--timeout` or Ctrl-A X,
//! on request (Ctrl-A D, SIGUSR1, the control socket), and with `--doctor` when nothing happens for a while.
//!
//! | question | file |
//! |---|---|
//! | Where does an interrupt wait? | `interrupt.rs` |
//! | When does `--doctor` look? | `watch.rs` |

mod interrupt;
pub(crate) mod watch;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::observe::Waiting;
use kvm_ioctls::VmFd;

use crate::log;
use crate::machine::devices::Devices;
use crate::symbols::Symbols;
use crate::vcpu::snapshot::{Snapshot, Snapshots};
use crate::x86::interrupts::Controllers;

/// How long a request waits for the vCPUs. One that is in a device for longer is not described.
const VCPUS_WITHIN: Duration = Duration::from_millis(100);

/// Examines a machine.
#[derive(Clone)]
pub(crate) struct Examiner {
    pub(crate) vm: Arc<VmFd>,
    pub(crate) devices: Devices,
    pub(crate) snapshots: Snapshots,
    /// The number of vCPUs.
    pub(crate) cpus: usize,
    /// Files that may have the guest's symbols: that of --symbols, then the kernel.
    pub(crate) symbols: Vec<PathBuf>,
}

/// Why a guest waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// Lines without an end.
    pub lines: Vec<String>,
    /// Whether the driver or a device left something undone.
    pub is_outstanding: bool,
    /// Whether a driver uses a device.
    pub is_used: bool,
    /// Whether all vCPUs that the guest has started are halted.
    pub is_asleep: bool,
}

impl Examiner {
    /// Examines a running machine; `kick` makes all vCPUs leave their guest. Waits for them for a limited time.
    pub(crate) fn examine(&self, kick: impl FnOnce()) -> Explanation {
        self.snapshots.request();
        kick();
        self.explain(&self.snapshots.take(self.cpus, VCPUS_WITHIN))
    }

    /// Examines a machine that has ended.
    pub(crate) fn examine_ended(&self) -> Explanation {
        self.explain(&self.snapshots.take(self.cpus, Duration::ZERO))
    }

    /// Why an interrupt may have led to the triple fault of vCPU `id`; nothing if none did.
    pub(crate) fn examine_triple_fault(&self, id: u32) -> Vec<String> {
        let mut vcpus = self.snapshots.take(0, Duration::ZERO);
        vcpus.retain(|vcpu| vcpu.id == id);
        Controllers::read(&self.vm)
            .map(|controllers| interrupt::without_handler(&controllers.pic, &vcpus))
            .unwrap_or_default()
    }

    /// Whether a driver or a device left something undone. Does not disturb the vCPUs.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.waiting().any(|waiting| waiting.is_outstanding)
    }

    /// Whether a driver has suppressed interrupts. Does not disturb the vCPUs.
    pub(crate) fn is_suppressed(&self) -> bool {
        self.waiting().any(|waiting| waiting.is_suppressed)
    }

    fn waiting(&self) -> impl Iterator<Item = Waiting> {
        let virtio = self.devices.virtio.iter().filter_map(|device| device.mmio.waiting());
        virtio.chain(self.devices.svirtb.iter().filter_map(|disk| disk.device.waiting()))
    }

    fn explain(&self, vcpus: &[Snapshot]) -> Explanation {
        let is_asleep = !vcpus.is_empty() && vcpus.iter().all(|vcpu| vcpu.is_halted);
        let mut explanation = Explanation { is_asleep, ..Explanation::default() };
        let controllers = Controllers::read(&self.vm);
        for device in &self.devices.virtio {
            let Some(waiting) = device.mmio.waiting() else { continue };
            explanation.add(&device.name, &waiting.lines, waiting.is_outstanding);
            if waiting.is_unacknowledged
                && let Some(controllers) = &controllers
            {
                let lines = interrupt::explain(device.irq, controllers, vcpus);
                explanation.lines.extend(lines);
            }
        }
        if let Some(disk) = &self.devices.svirtb
            && let Some(waiting) = disk.device.waiting()
        {
            explanation.add("svirtb", &waiting.lines, waiting.is_outstanding);
        }
        for disk in &self.devices.disks {
            let (name, delayed) = (disk.blk.name(), disk.blk.disk().delayed());
            if delayed > 0 {
                explanation.lines.push(format!(
                    "{name}: {delayed} of the requests wait for the limits of the disk (bps=, iops=)"
                ));
            }
        }
        if explanation.is_used {
            let files = self.symbols.iter();
            let symbols = files.map(|path| Symbols::of(path)).find_map(Result::ok);
            let mut symbols = symbols.unwrap_or_default();
            explanation.lines.extend(vcpus.iter().map(|vcpu| place(vcpu, &mut symbols)));
        } else {
            explanation.lines.push("no driver uses a disk".to_owned());
        }
        explanation
    }
}

impl Explanation {
    fn add(&mut self, device: &str, lines: &[String], is_outstanding: bool) {
        self.lines.extend(lines.iter().map(|line| format!("{device}: {line}")));
        self.is_outstanding |= is_outstanding;
        self.is_used = true;
    }
}

/// Examines the running machine.
pub(crate) type Explain<'a> = Rc<dyn Fn() -> Explanation + 'a>;

/// Logs an explanation that the user asked for.
pub(crate) fn log(explanation: &Explanation) {
    log::line(format_args!("what the guest waits for:\n{explanation}"));
}

/// The explanation as a block of the log.
impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<_> = self.lines.iter().map(|line| format!("  {line}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Where a vCPU is.
fn place(vcpu: &Snapshot, symbols: &mut Symbols) -> String {
    let Snapshot { id, rip, accepts, is_halted, .. } = vcpu;
    let name = symbols.name(*rip).map_or_else(String::new, |name| format!(", {name}"));
    let does = if *is_halted { "is halted" } else { "runs" };
    let interrupts = match (is_halted, accepts) {
        (true, false) => "interrupts are disabled (IF is 0), so nothing wakes it",
        (_, false) => "interrupts are disabled (IF is 0)",
        (_, true) => "interrupts are enabled",
    };
    format!("vCPU {id} {does} at rip {rip:#x}{name}; {interrupts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halted_vcpu_without_interrupts_never_wakes() {
        let vcpu = Snapshot { rip: 0x10_0000, is_halted: true, ..Snapshot::default() };
        assert_eq!(
            place(&vcpu, &mut Symbols::default()),
            "vCPU 0 is halted at rip 0x100000; interrupts are disabled (IF is 0), so nothing wakes it"
        );
    }
}
