//! The screen of the demo's guest: its GPU, and what types and points.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cafevm_devices::display::Screen;
use cafevm_devices::virtio::gpu::GpuOptions;
use cafevm_devices::virtio::input::InputKind;

use super::DemoError;
use crate::config::address::ListenAddress;
use crate::config::{OtherDevice, Peripherals, User, VmConfig};
use crate::display::screenshot;

/// A machine's screen, once there is a machine. Clones share it.
#[derive(Clone, Default)]
pub(super) struct DemoScreen(Arc<Mutex<Option<Screen>>>);

impl DemoScreen {
    /// Adds a GPU, a keyboard and a tablet to a machine, and a VNC server if there is an address for it.
    pub(super) fn add_to(&self, config: &mut VmConfig, display: Option<ListenAddress>) {
        let place = self.clone();
        let keep = move |peripherals: Peripherals| {
            let screen = peripherals.display.map(|display| display.screen());
            *place.0.lock().unwrap_or_else(PoisonError::into_inner) = screen;
        };
        config.others = vec![
            OtherDevice::Gpu(GpuOptions::default()),
            OtherDevice::Input(InputKind::Keyboard),
            OtherDevice::Input(InputKind::Tablet),
        ];
        config.user = Some(User::new(keep));
        config.display = display;
    }

    /// Writes what is on the screen to a file.
    pub(super) fn write(&self, to: &Path) -> Result<(), DemoError> {
        let screen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        screenshot::write(&screen.unwrap_or_default(), to, true).map_err(DemoError::Screenshot)?;
        Ok(())
    }
}

/// Checks that the screenshot may be written, before the machine runs.
pub(super) fn check(to: &Path) -> Result<(), DemoError> {
    let failed = |error| DemoError::Screenshot(format!("{}: {error}", to.display()));
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty());
    // No such folder, mostly.
    dir.map_or(Ok(()), |dir| fs::metadata(dir).map(drop)).map_err(failed)?;
    screenshot::check(to).map_err(failed)
}
