//! What a person uses at a running machine: keyboards, mice, tablets, and the display.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use cafevm_devices::display::Screen;
use cafevm_devices::virtio::gpu::Gpu;
use cafevm_devices::virtio::input::Input;
use cafevm_devices::virtio::mmio::Mmio;

/// The input devices and the display of a machine. Clones share them.
#[derive(Clone, Default)]
pub struct Peripherals {
    /// The keyboards, mice and tablets, lowest slot first.
    pub inputs: Vec<Arc<Input>>,
    /// The display, if the machine has a GPU.
    pub display: Option<Display>,
}

/// The display of a GPU. Clones share it.
#[derive(Clone)]
pub struct Display {
    /// The GPU's registers.
    device: Arc<Mmio>,
    gpu: Arc<Gpu>,
}

impl Display {
    /// The display of a GPU behind these registers.
    pub(crate) const fn new(device: Arc<Mmio>, gpu: Arc<Gpu>) -> Self {
        Self { device, gpu }
    }

    /// What the guest shows.
    pub fn screen(&self) -> Screen {
        self.gpu.screen()
    }

    /// The width and height of the display. The guest may show another size.
    pub fn size(&self) -> (u32, u32) {
        self.gpu.display_size()
    }

    /// Changes the size of the display, and interrupts the driver, which may follow or not. Sizes that no display can
    /// have are replaced by the nearest one. Waits for a command that is being carried out, and may carry out others.
    pub fn set_size(&self, width: u32, height: u32) {
        // The registers stay mapped meanwhile: the driver reads a single field.
        let change = || Ok::<_, Infallible>(self.gpu.set_display_size(width, height));
        match self.device.reconfigure(change) {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
}

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Display").field(&self.gpu).finish()
    }
}

impl fmt::Debug for Peripherals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs: Vec<_> = self.inputs.iter().map(|input| input.kind()).collect();
        f.debug_struct("Peripherals")
            .field("inputs", &inputs)
            .field("display", &self.display)
            .finish()
    }
}

/// Uses the input devices and the display of a machine, for programs that embed one, and for tests.
#[derive(Clone)]
pub struct User(Arc<dyn Fn(Peripherals) + Send + Sync>);

impl User {
    /// Passes them to `begin`, which must not block: the machine starts after it.
    pub fn new(begin: impl Fn(Peripherals) + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }

    /// The machine is about to start.
    pub(crate) fn begin(&self, peripherals: Peripherals) {
        (self.0)(peripherals);
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}
