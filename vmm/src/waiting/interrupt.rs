//! Where an interrupt waits that a driver did not acknowledge.

use crate::vcpu::snapshot::Snapshot;
use crate::x86::interrupts::{Controllers, Pic};

/// The first vector that is not an exception of the processor.
const FIRST_VECTOR: u8 = 32;
/// The instruction pointer of a processor after its reset.
const RESET_RIP: u64 = 0xfff0;

/// Follows interrupt `irq` from the controllers to the vCPUs.
pub(super) fn explain(irq: u32, controllers: &Controllers, vcpus: &[Snapshot]) -> Vec<String> {
    let pin = controllers.pin(irq);
    let by_ioapic = pin.filter(|pin| !pin.is_masked());
    let by_pic = controllers.pic.vector(irq);
    match (by_ioapic, by_pic) {
        (None, None) => {
            let entry = pin.map_or_else(
                || "the IOAPIC has no such pin".to_owned(),
                |pin| format!("the IOAPIC's entry of pin {irq} is {:#x}", pin.0),
            );
            let open: Vec<_> = controllers
                .open_pins()
                .map(|(pin, vector)| format!("{pin} (vector {vector:#x})"))
                .collect();
            let others = match open.is_empty() {
                true => String::new(),
                false => format!("; the pins that are not masked: {}", open.join(", ")),
            };
            vec![format!(
                "interrupt {irq} is masked: {entry}, and the PIC does not pass it on; unmask it, or poll the used \
                 index{others}"
            )]
        }
        (Some(pin), _) => {
            let vector = pin.vector();
            let mut lines = vec![format!("interrupt {irq}: the IOAPIC sends vector {vector:#x}")];
            if vector < FIRST_VECTOR {
                lines.push(format!(
                    "vector {vector:#x} belongs to the processor's exceptions; use {FIRST_VECTOR:#x} or more"
                ));
            }
            if pin.waits_for_eoi() {
                lines.push(format!(
                    "pin {irq} is level-triggered and waits for EOI: the last handler wrote none to the local APIC"
                ));
            }
            lines.extend(vcpus.iter().map(|vcpu| at_vcpu(vcpu, vector)));
            lines
        }
        (None, Some(vector)) => {
            let mut lines = vec![format!("interrupt {irq}: the PIC sends vector {vector:#x}")];
            if controllers.pic.is_in_service(irq) {
                lines.push(format!(
                    "the PIC has interrupt {irq} in service: its handler runs, or wrote no EOI (0x20 to port 0x20, and to 0xa0 \
                     from interrupt 8 on)"
                ));
            }
            let missing = vcpus.iter().filter(|vcpu| !vcpu.has_handler(vector));
            lines.extend(missing.map(|vcpu| no_handler(vcpu.id, vector)));
            lines
        }
    }
}

/// The interrupts that were delivered to a vCPU without a handler for them.
pub(super) fn without_handler(pic: &Pic, vcpus: &[Snapshot]) -> Vec<String> {
    let mut lines = Vec::new();
    // After a triple fault some processors reset the vCPU: nothing is known then.
    for vcpu in vcpus.iter().filter(|vcpu| vcpu.rip != RESET_RIP) {
        for (irq, vector) in pic.delivered().filter(|(_, vector)| !vcpu.has_handler(*vector)) {
            lines.push(format!(
                "interrupt {irq} came through the PIC as vector {vector:#x}, and the IDT has no handler there: mask the PIC \
                 (0xff to the ports 0x21 and 0xa1) if you use the IOAPIC, or remap it to {FIRST_VECTOR:#x} and set handlers"
            ));
        }
        let in_service = (0..=u8::MAX).filter(|vector| vcpu.apic.is_in_service(*vector));
        lines.extend(
            in_service.filter(|vector| !vcpu.has_handler(*vector)).map(|vector| {
                format!("{}; set its handler before sti", no_handler(vcpu.id, vector))
            }),
        );
    }
    lines
}

fn no_handler(id: u32, vector: u8) -> String {
    format!("vCPU {id} has no handler: entry {vector:#x} of its IDT is not present")
}

fn at_vcpu(vcpu: &Snapshot, vector: u8) -> String {
    let Snapshot { id, apic, accepts, .. } = vcpu;
    if !apic.is_enabled {
        format!(
            "vCPU {id}: its local APIC is off (bit 8 of the register 0xf0); it accepts no interrupt of the IOAPIC"
        )
    } else if !vcpu.has_handler(vector) {
        no_handler(*id, vector)
    } else if apic.is_in_service(vector) {
        format!(
            "vCPU {id}: vector {vector:#x} is in service: its handler runs, or did not write EOI (register 0xb0)"
        )
    } else if apic.is_requested(vector) && !accepts {
        format!(
            "vCPU {id}: vector {vector:#x} is pending, but interrupts are disabled (IF is 0; use sti)"
        )
    } else if apic.is_requested(vector) {
        format!(
            "vCPU {id}: vector {vector:#x} is pending; the task priority is {:#x}",
            apic.priority
        )
    } else {
        format!(
            "vCPU {id}: vector {vector:#x} is neither pending nor in service; its handler may have run without an acknowledge"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::interrupts::{LocalApic, Pin};

    fn explained(entry: u64, vcpu: Snapshot) -> String {
        let controllers = Controllers::with(vec![Pin(entry); 24], Pic::default());
        explain(5, &controllers, &[vcpu]).join("; ")
    }

    #[test]
    fn an_interrupt_without_a_handler_explains_a_triple_fault() {
        let pic = Pic { in_service: [1 << 5, 0], ..Pic::default() };
        let lines = without_handler(&pic, &[vcpu()]);
        assert!(
            lines[0].starts_with("interrupt 5 came through the PIC as vector 0x5"),
            "{lines:?}"
        );
        let mut handled = Snapshot { handlers: [1 << 5, 0, 0, 0, 0, 0, 0, 0], ..vcpu() };
        assert_eq!(without_handler(&pic, &[handled.clone()]), [""; 0]);
        handled.apic.in_service[1] = 1 << 16;
        let lines = without_handler(&Pic::default(), &[handled.clone()]);
        assert_eq!(
            lines,
            [
                "vCPU 0 has no handler: entry 0x30 of its IDT is not present; set its handler before sti"
            ]
        );
        handled.rip = RESET_RIP;
        assert_eq!(without_handler(&pic, &[handled]), [""; 0]);
    }

    fn vcpu() -> Snapshot {
        let apic = LocalApic { is_enabled: true, ..LocalApic::default() };
        Snapshot { apic, ..Snapshot::default() }
    }

    /// Vector 0x31 has a handler.
    fn with_handler() -> Snapshot {
        Snapshot { handlers: [0, 1 << 0x11, 0, 0, 0, 0, 0, 0], ..vcpu() }
    }

    #[test]
    fn the_first_obstacle_is_named() {
        assert!(
            explained(0x1_0000, vcpu())
                .starts_with("interrupt 5 is masked: the IOAPIC's entry of pin 5 is 0x10000")
        );
        assert!(explained(0x31, vcpu()).ends_with("entry 0x31 of its IDT is not present"));
        assert!(
            explained(0x5, vcpu()).contains("vector 0x5 belongs to the processor's exceptions")
        );
        assert!(
            explained(0x31, Snapshot::default()).ends_with("it accepts no interrupt of the IOAPIC")
        );
        assert!(explained(0xc031, with_handler()).contains("waits for EOI"));
        assert!(explained(0x31, with_handler()).contains("neither pending nor in service"));
    }

    #[test]
    fn the_pic_may_deliver_what_the_ioapic_masks() {
        let pic = Pic { base: [0x20, 0x28], masked: [0; 2], in_service: [0x20, 0] };
        let controllers = Controllers::with(vec![Pin(0x1_0000); 24], pic);
        let lines = explain(5, &controllers, &[vcpu()]).join("; ");
        assert!(lines.starts_with("interrupt 5: the PIC sends vector 0x25"), "{lines}");
        assert!(
            lines.contains("wrote no EOI") && lines.contains("entry 0x25 of its IDT"),
            "{lines}"
        );
    }
}
