//! What a VNC client does to the guest.

use std::sync::Arc;

use tracing::{debug, info};

use super::hands::{Hand, Hands};
use super::keys::scancode;
use super::rfb::Guest;

/// Tells the guest that its display has another size.
pub(crate) type Resize = Arc<dyn Fn(u32, u32) + Send + Sync>;

/// The guest, for one client.
pub(crate) struct Desk {
    hand: Hand,
    resize: Resize,
    /// Key presses without a key.
    unknown: u64,
}

impl Desk {
    /// For a client that has connected.
    pub(crate) fn new(hands: Hands, resize: Resize) -> Self {
        Self { hand: Hand::new(hands), resize, unknown: 0 }
    }
}

impl Guest for Desk {
    fn key(&mut self, down: bool, keysym: u32, scancode: Option<u32>) {
        if let Some(code) = scancode.and_then(scancode::code) {
            return self.hand.key(code, down);
        }
        if !self.hand.keysym(keysym, down) && down {
            if self.unknown == 0 {
                info!(
                    "--display: a client presses a key that a US keyboard does not have (keysym {keysym:#x}); it is \
                     ignored, and further ones of this client are counted"
                );
            }
            self.unknown += 1;
        }
    }

    fn pointer(&mut self, at: (u16, u16), size: (u32, u32), buttons: u8) {
        self.hand.point(at, size, buttons);
    }

    fn resize(&mut self, width: u32, height: u32) {
        (self.resize)(width, height);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.unknown > 0 {
            debug!(
                "--display: a client pressed {} keys that a US keyboard does not have",
                self.unknown
            );
        }
    }
}
