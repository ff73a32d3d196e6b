//! The one thing a device knows of interrupts: a line it can raise.

/// An interrupt line of one device.
///
/// Edge-triggered: each call is one interrupt, unless the interrupt controller has one of this line pending
/// already. The machine's owner gives the device a line and wires it to an interrupt controller.
pub trait IrqLine: Send + Sync {
    /// Raises the line once. May be called from any thread; must not block.
    fn raise(&self);
}
