//! What a device knows of the world that it signals: an interrupt line to the guest, a wake-up for the host.

/// The interrupt line of one device.
///
/// The machine's owner gives the device a line and wires it to an interrupt controller.
pub trait IrqLine: Send + Sync {
    /// Asserts the line. Where it is asserted already, this is a new edge all the same, so that a driver that
    /// programmed the pin as edge-triggered sees every call. May be called from any thread; must not block.
    fn raise(&self);

    /// Deasserts the line: the driver has acknowledged everything. A line that only knows edges has nothing to do.
    fn lower(&self) {}
}

/// Wakes a thread of the host that waits for work. It never interrupts the guest.
pub trait Wake: Send + Sync {
    /// May be called from any thread, any number of times before the thread looks; must not block.
    fn wake(&self);
}
