//! ACPI tables: they describe the processors, the serial port, the virtio slots in use and the power-off port to a
//! stock kernel. Sections are those of ACPI 6.5.
//!
//! ```text
//!  0xe0000  RSDP ──▶ XSDT ─┬▶ FADT ──▶ DSDT   devices, \_S5
//!                          └▶ MADT            processors, IOAPIC
//! ```
//!
//! The model is the hardware-reduced one (4.1): no SCI, no PM timer, no SMI. Power management consists of one port to
//! sleep and one to reset (`power.rs`).

use acpi_tables::Aml;
use acpi_tables::aml::{self, Interrupt, Memory32Fixed, Name, Path, ResourceTemplate};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use cafevm_devices::memory::{GuestRam, OutOfRam};

use crate::config::Slot;
use crate::layout::{
    ACPI, COM1, COM1_IRQ, IOAPIC, LOCAL_APIC, PVPANIC_PORT, RESET_COMMAND, RESET_PORT,
    SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT,
};
use crate::x86::power::SOFT_OFF;

const OEM: [u8; 6] = *b"CAFEVM";
const OEM_TABLE: [u8; 8] = *b"CAFEVM  ";
const OEM_REVISION: u32 = 1;
/// The revision of the DSDT: integers have 64 bits from 2 on (5.2.11.1).
const DSDT_REVISION: u8 = 2;
/// A table without content after its header (5.2.6).
const HEADER: u32 = 36;

/// IA-PC boot architecture flags (5.2.9.3): no VGA, no MSI and no real-time clock to probe. The flag for a keyboard
/// controller is not set: port 0x64 only has a reset line.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 3 | 1 << 5;

/// The serial port (a 16550A-compatible one), virtio-mmio (Linux knows no other id), and pvpanic.
const SERIAL_ID: &str = "PNP0501";
const VIRTIO_ID: &str = "LNRO0005";
const PVPANIC_ID: &str = "QEMU0001";

/// The content of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The number of vCPUs.
    pub(crate) cpus: u32,
    /// The virtio slots in use, in order.
    pub(crate) slots: Vec<Slot>,
    /// The bytes of registers of a slot.
    pub(crate) slot_size: u64,
}

/// Writes the tables to the area that kernels search; the RSDP is the first.
///
/// # Errors
///
/// If there is no RAM.
pub(crate) fn write(ram: &GuestRam, machine: &Machine) -> Result<(), OutOfRam> {
    // The RSDP is at the lowest address and points up, so all other tables are placed first.
    let mut tables = Tables { at: ACPI.start + Rsdp::len() as u64, bytes: Vec::new() };
    let dsdt = tables.put(&dsdt(machine));
    let fadt = tables.put(&fadt(dsdt));
    let madt = tables.put(&madt(machine.cpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = tables.put(&xsdt);
    ram.write(ACPI.start + Rsdp::len() as u64, &tables.bytes)?;
    ram.write(ACPI.start, &bytes(&Rsdp::new(OEM, xsdt)))
}

/// Tables one behind the other.
struct Tables {
    at: u64,
    bytes: Vec<u8>,
}

impl Tables {
    /// Appends a table. Returns its address.
    fn put(&mut self, table: &dyn Aml) -> u64 {
        // For readers of a dump.
        while !(self.at + self.bytes.len() as u64).is_multiple_of(16) {
            self.bytes.push(0);
        }
        let addr = self.at + self.bytes.len() as u64;
        table.to_aml_bytes(&mut self.bytes);
        addr
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// A register of one byte at a port (5.2.3.2).
fn port(number: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, number.into())
}

/// The fixed description (5.2.9).
fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        // Set: the machine has no such button of the fixed kind.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(RESET_PORT);
    fadt.reset_value = RESET_COMMAND;
    fadt.sleep_control_reg = port(SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port(SLEEP_STATUS_PORT);
    fadt.finalize()
}

/// The interrupt controllers (5.2.12): for each vCPU a local APIC, with the vCPU's number as id, and one IOAPIC, in
/// which line N is input N.
fn madt(cpus: u32) -> impl Aml {
    // Both are below 4 GiB.
    let low = |addr: u64| u32::try_from(addr).unwrap_or_default();
    let local = LocalInterruptController::Address(low(LOCAL_APIC.start));
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, local);
    // The host check allows at most as many vCPUs as an 8-bit id can name.
    for id in (0..cpus).filter_map(|id| u8::try_from(id).ok()) {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, low(IOAPIC.start), 0));
    madt
}

/// The devices, and how to power off (5.2.11.1).
fn dsdt(machine: &Machine) -> impl Aml {
    let mut body = Vec::new();
    body.extend(serial());
    for (number, slot) in machine.slots.iter().enumerate() {
        body.extend(virtio(number, slot, machine.slot_size));
    }
    body.extend(pvpanic());
    let mut code = aml::Scope::raw(Path::new("\\_SB_"), body);
    // The value for the sleep control register (7.4.2.6).
    let off = aml::Package::new(vec![&SOFT_OFF, &SOFT_OFF]);
    Name::new(Path::new("\\_S5_"), &off).to_aml_bytes(&mut code);

    let mut dsdt = Sdt::new(*b"DSDT", HEADER, DSDT_REVISION, OEM, OEM_TABLE, OEM_REVISION);
    dsdt.append_slice(&code);
    dsdt
}

fn device(name: &str, children: Vec<&dyn Aml>) -> Vec<u8> {
    bytes(&aml::Device::new(Path::new(name), children))
}

fn named(name: &str, value: &dyn Aml) -> Name {
    Name::new(Path::new(name), value)
}

/// An edge-triggered interrupt, as irqfd raises it.
fn interrupt(line: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, line)
}

fn ports(first: u16, count: u8) -> aml::IO {
    aml::IO::new(first, first, 1, count)
}

fn serial() -> Vec<u8> {
    let first = u16::try_from(COM1).unwrap_or_default();
    let (ports, line) = (ports(first, 8), interrupt(COM1_IRQ));
    let resources = ResourceTemplate::new(vec![&ports, &line]);
    device(
        "COM1",
        vec![
            &named("_HID", &aml::EISAName::new(SERIAL_ID)),
            &named("_UID", &aml::ONE),
            &named("_CRS", &resources),
        ],
    )
}

fn virtio(number: usize, slot: &Slot, size: u64) -> Vec<u8> {
    // `VirtioBank::check` keeps the slots below the upper part of RAM. If 32 bits are not enough, the guest must find
    // them by its command line.
    let (Ok(base), Ok(len)) = (u32::try_from(slot.base), u32::try_from(size)) else {
        return Vec::new();
    };
    let (registers, line) = (Memory32Fixed::new(true, base, len), interrupt(slot.irq));
    let resources = ResourceTemplate::new(vec![&registers, &line]);
    device(
        &format!("V{number:03}"),
        vec![
            &named("_HID", &VIRTIO_ID),
            &named("_UID", &number),
            // It accesses memory coherently with the processors' caches (6.2.17).
            &named("_CCA", &aml::ONE),
            &named("_CRS", &resources),
        ],
    )
}

fn pvpanic() -> Vec<u8> {
    let ports = ports(PVPANIC_PORT, 1);
    let resources = ResourceTemplate::new(vec![&ports]);
    device("PVPN", vec![&named("_HID", &PVPANIC_ID), &named("_CRS", &resources)])
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
