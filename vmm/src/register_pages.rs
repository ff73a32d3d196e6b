//! Pages of virtio registers that the guest reads as memory: such a read is no exit, a write still is.
//!
//! A page is shown once a driver has taken over each disk in it. Until then every read comes to its device, which says
//! what is wrong with it: a driver that got through its handshake knows how to read a register. A strict device, and
//! one that is watched, want to see every access.

use std::sync::Arc;

use cafevm_devices::virtio::mmio::{Mmio, PAGE_SIZE, Policy, RegisterPage, SLOT_SIZE, Window};
use kvm_ioctls::{Cap, VmFd};
use tracing::{debug, warn};

use crate::config::VmConfig;
use crate::memory;

/// The first of the memory slots for them: those below are RAM's.
const FIRST_SLOT: u32 = 8;

/// The pages of a machine's bank of virtio slots.
#[derive(Default)]
pub(crate) struct RegisterPages {
    /// Whose memory they are to become; none where every read is to be an exit.
    vm: Option<Arc<VmFd>>,
    pages: Vec<Page>,
}

struct Page {
    addr: u64,
    registers: Arc<RegisterPage>,
    /// The disks in it that no driver has taken over yet.
    waiting: Vec<Arc<Mmio>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No disk is in it: it is not worth a memory slot.
    Empty,
    Hidden,
    Shown,
}

impl RegisterPages {
    /// The pages of a bank, with no slot in them yet.
    pub(crate) fn new(vm: &Arc<VmFd>, config: &VmConfig) -> Self {
        let possible = vm.check_extension(Cap::ReadonlyMem);
        // Then no slot lies in two pages.
        let fits = config.virtio.stride.is_multiple_of(SLOT_SIZE);
        let unseen = config.virtio.policy == Policy::Lenient && !config.tracer.is_watching();
        Self { vm: (possible && fits && unseen).then(|| vm.clone()), pages: Vec::new() }
    }

    /// Where the registers of the slot at `base` are to be read.
    pub(crate) fn window(&mut self, base: u64) -> Window {
        self.page(base).registers.slot(base % PAGE_SIZE).unwrap_or_default()
    }

    /// Says that this disk is in the slot at `base`.
    pub(crate) fn insert(&mut self, base: u64, disk: Arc<Mmio>) {
        let page = self.page(base);
        page.waiting.push(disk);
        page.state = State::Hidden;
    }

    fn page(&mut self, base: u64) -> &mut Page {
        let addr = base - base % PAGE_SIZE;
        let known = self.pages.iter().position(|page| page.addr == addr);
        let index = known.unwrap_or_else(|| {
            let (registers, waiting) = (RegisterPage::new(), Vec::new());
            self.pages.push(Page { addr, registers, waiting, state: State::Empty });
            self.pages.len() - 1
        });
        &mut self.pages[index]
    }

    /// Shows the pages whose disks are all taken over.
    pub(crate) fn look(&mut self) {
        for page in self.pages.iter_mut().filter(|page| page.state == State::Hidden) {
            page.waiting.retain(|disk| !disk.was_used());
        }
        self.show();
    }

    /// Does something during which no guest may read a register but by an exit.
    ///
    /// # Errors
    ///
    /// Where KVM does not take a page away; nothing was done then.
    pub(crate) fn hidden<T>(&mut self, during: impl FnOnce() -> T) -> Result<T, kvm_ioctls::Error> {
        if let Some(vm) = &self.vm {
            for (slot, page) in (FIRST_SLOT..).zip(&mut self.pages) {
                if page.state == State::Shown {
                    memory::hide_registers(vm, slot, page.addr)?;
                    page.state = State::Hidden;
                }
            }
        }
        let done = during();
        self.show();
        Ok(done)
    }

    fn show(&mut self) {
        let Some(vm) = &self.vm else { return };
        for (slot, page) in (FIRST_SLOT..).zip(&mut self.pages) {
            if page.state != State::Hidden || !page.waiting.is_empty() {
                continue;
            }
            match memory::show_registers(vm, slot, page.addr, &page.registers) {
                Ok(()) => {
                    debug!("the registers at {:#x} can be read without an exit now", page.addr);
                    page.state = State::Shown;
                }
                Err(error) => {
                    warn!(
                        "KVM does not show the registers at {:#x}: {error}; each read of one is an exit",
                        page.addr
                    );
                    self.vm = None;
                    return;
                }
            }
        }
    }
}
