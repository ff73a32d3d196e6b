//! The signals of a device: an interrupt line to the guest, a wake-up for the host.

/// The interrupt line of one device.
///
/// The VMM creates the line and connects it to an interrupt controller.
pub trait IrqLine: Send + Sync {
    /// Asserts the line. If it is asserted already, this is a new edge nevertheless, so that a driver that programmed
    /// the pin as edge-triggered sees every call. May be called on any thread; must not block.
    fn raise(&self);

    /// Deasserts the line: the driver has acknowledged all reasons. A line for edges only does nothing.
    fn lower(&self) {}
}

/// Wakes a thread of the host that waits for work. It does not interrupt the guest.
pub trait Wake: Send + Sync {
    /// May be called on any thread, any number of times before the thread runs; must not block.
    fn wake(&self);
}
