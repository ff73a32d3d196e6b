//! How a device signals its driver outside its queues. A transport implements both traits.

use std::fmt;

/// The signals that a live device sends.
pub trait Notifier: fmt::Debug + Send + Sync {
    /// Interrupts the driver: a queue has used buffers (2.7.7).
    fn used_buffers(&self);
    /// Interrupts the driver: the configuration space has changed (2.5).
    fn config_changed(&self);
    /// Sets DEVICE_NEEDS_RESET (2.1.2): the device does nothing until a reset. After DRIVER_OK, the driver gets a
    /// configuration change interrupt.
    fn needs_reset(&self);
    /// Whether DEVICE_NEEDS_RESET is set.
    fn is_reset_needed(&self) -> bool;
}

/// The device status field (2.1) and the interrupts of one device, as its transport keeps them.
pub trait Signals: Notifier {
    /// The device status field.
    fn status(&self) -> u32;
    /// Sets bits of the device status field. Only [`Signals::reset`] clears them.
    fn add_status(&self, bits: u32);
    /// Clears the device status field and all pending interrupts, as after power-on.
    fn reset(&self);
}
