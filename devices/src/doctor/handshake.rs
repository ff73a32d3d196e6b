//! Steps of the virtio handshake that a driver leaves out.

use super::Report;
use crate::catalogue::observed_rules as rules;
use crate::observe::{Direction, Event};
use crate::virtio::spec::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};

/// What a driver has read and written since the last reset.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Whether it ever reset the device.
    was_reset: bool,
    /// Whether it ever read MagicValue, Version, DeviceID.
    identity: [bool; 3],
    since: Since,
}

/// What a reset clears.
#[derive(Debug, Default)]
struct Since {
    device_features_sel: bool,
    driver_features_sel: bool,
    queue_num_max: bool,
    /// Whether Status was not read since FEATURES_OK was set.
    features_ok_unread: bool,
    /// The last value written to Status.
    status: u32,
}

/// The registers that identify a device.
const IDENTITY: [&str; 3] = ["MagicValue", "Version", "DeviceID"];

impl Handshake {
    pub(super) fn event(&mut self, event: &Event<'_>, report: Report<'_>) {
        let Event::Register { register, direction, value, .. } = *event else { return };
        match direction {
            Direction::Read => self.read(register, report),
            Direction::Write => self.write(register, value, report),
        }
    }

    fn read(&mut self, register: &str, report: Report<'_>) {
        let since = &mut self.since;
        match register {
            "Status" => since.features_ok_unread = false,
            "QueueNumMax" => since.queue_num_max = true,
            "DeviceFeatures" if !since.device_features_sel => report(
                rules::SELECTOR,
                format_args!("DeviceFeatures was read, but DeviceFeaturesSel never was written"),
            ),
            _ => {
                let known = IDENTITY.iter().zip(&mut self.identity);
                for (_, seen) in known.filter(|(name, _)| **name == register) {
                    *seen = true;
                }
            }
        }
    }

    fn write(&mut self, register: &str, value: u32, report: Report<'_>) {
        let since = &mut self.since;
        match register {
            "Status" => self.write_status(value, report),
            "DeviceFeaturesSel" => since.device_features_sel = true,
            "DriverFeaturesSel" => since.driver_features_sel = true,
            "DriverFeatures" if !since.driver_features_sel => report(
                rules::SELECTOR,
                format_args!("DriverFeatures was written, but DriverFeaturesSel never was"),
            ),
            "QueueSel" => since.queue_num_max = false,
            "QueueNum" if !since.queue_num_max => report(
                rules::QUEUE_NUM_MAX,
                format_args!("QueueNum was written with {value}, but QueueNumMax was not read"),
            ),
            _ => {}
        }
    }

    fn write_status(&mut self, value: u32, report: Report<'_>) {
        if value == 0 {
            self.was_reset = true;
            self.since = Since::default();
            return;
        }
        let unread = || IDENTITY.iter().zip(self.identity).filter(|(_, seen)| !seen);
        if self.since.status == 0 && unread().next().is_some() {
            let names: Vec<_> = unread().map(|(name, _)| *name).collect();
            report(
                rules::IDENTITY,
                format_args!(
                    "Status was written, but the driver did not read {}",
                    names.join(", ")
                ),
            );
        }
        if !std::mem::replace(&mut self.was_reset, true) {
            report(
                rules::RESET_FIRST,
                format_args!("the first write of Status is {value:#x}, not 0"),
            );
        }
        let since = &mut self.since;
        if value & DRIVER_OK != 0 && since.status & DRIVER_OK == 0 && since.features_ok_unread {
            report(
                rules::FEATURES_OK_READ,
                format_args!("DRIVER_OK was set, but Status was not read after FEATURES_OK"),
            );
        }
        let missing = (ACKNOWLEDGE | DRIVER) & !since.status;
        if value & (FEATURES_OK | DRIVER_OK) != 0 && missing != 0 && value & missing == missing {
            report(
                rules::STEPS,
                format_args!(
                    "Status was written with {value:#x} at once; it was {:#x}",
                    since.status
                ),
            );
        }
        if value & FEATURES_OK != 0 && since.status & FEATURES_OK == 0 {
            since.features_ok_unread = true;
        }
        since.status = value;
    }
}
