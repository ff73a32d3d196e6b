//! Pages of registers that the guest reads as memory: a read causes no exit, a write does.
//!
//! A page is mapped when the drivers of all disks in it have completed their handshake: DRIVER_OK on virtio, READY on
//! svirtb. Until then every read reaches its device, which reports wrong reads: a driver that completed its handshake
//! can read registers. Strict devices and observed devices need every access, so their pages are never mapped.

use std::sync::Arc;

use cafevm_devices::register_page::{PAGE_SIZE, RegisterPage, SLOT_SIZE, Window};
use cafevm_devices::svirtb;
use cafevm_devices::virtio::mmio::{Mmio, Policy};
use kvm_ioctls::{Cap, VmFd};
use tracing::{debug, warn};

use crate::config::VmConfig;
use crate::machine::memory;

/// The first memory slot for pages; RAM uses those below.
const FIRST_SLOT: u32 = 8;

/// The calls of KVM that register pages need.
trait MemorySlots: Send {
    /// See [`memory::show_registers`].
    fn show(&self, slot: u32, addr: u64, page: &RegisterPage) -> Result<(), kvm_ioctls::Error>;
    /// See [`memory::hide_registers`].
    fn hide(&self, slot: u32, addr: u64) -> Result<(), kvm_ioctls::Error>;
}

impl MemorySlots for Arc<VmFd> {
    fn show(&self, slot: u32, addr: u64, page: &RegisterPage) -> Result<(), kvm_ioctls::Error> {
        memory::show_registers(self, slot, addr, page)
    }

    fn hide(&self, slot: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
        memory::hide_registers(self, slot, addr)
    }
}

/// The pages of a machine's registers.
#[derive(Default)]
pub(crate) struct RegisterPages {
    /// The machine that maps them; none if every read must be an exit.
    memory: Option<Box<dyn MemorySlots>>,
    pages: Vec<Page>,
}

struct Page {
    addr: u64,
    registers: Arc<RegisterPage>,
    /// The disks of the page whose drivers have not completed their handshake.
    waiting: Vec<PagedDisk>,
    state: State,
}

/// A disk with registers in a page.
pub(crate) enum PagedDisk {
    Virtio(Arc<Mmio>),
    Svirtb(Arc<svirtb::Device>),
}

impl PagedDisk {
    /// Whether its driver ever completed its handshake.
    fn was_used(&self) -> bool {
        match self {
            Self::Virtio(disk) => disk.was_used(),
            Self::Svirtb(disk) => disk.was_used(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The page has no disk: it gets no memory slot.
    Empty,
    Hidden,
    Shown,
    /// KVM refused the page: it is not mapped.
    Refused,
}

impl RegisterPages {
    /// The pages of a machine, without devices yet.
    pub(crate) fn new(vm: &Arc<VmFd>, config: &VmConfig) -> Self {
        let possible = vm.check_extension(Cap::ReadonlyMem);
        // Otherwise a slot could be in two pages.
        let fits = config.virtio.stride.is_multiple_of(SLOT_SIZE);
        let unseen = config.virtio.policy == Policy::Lenient && !config.tap.is_on();
        let wanted = config.register_pages;
        let memory = (wanted && possible && fits && unseen).then(|| vm.clone());
        Self { memory: memory.map(|vm| Box::new(vm) as Box<dyn MemorySlots>), pages: Vec::new() }
    }

    /// The memory in which the registers of the virtio slot at `base` are stored.
    pub(crate) fn window(&mut self, base: u64) -> Window {
        let page = self.page(base, RegisterPage::new);
        page.registers.slot(base % PAGE_SIZE).unwrap_or_default()
    }

    /// The memory in which the registers of svirtb are stored. Its page has no other device.
    pub(crate) fn svirtb_window(&mut self) -> Window {
        let page = self.page(svirtb::BASE, RegisterPage::of_one_device);
        page.registers.slot(0).unwrap_or_default()
    }

    /// Adds a disk whose registers begin at `base`.
    pub(crate) fn insert(&mut self, base: u64, disk: PagedDisk) {
        let page = self.page(base, RegisterPage::new);
        page.waiting.push(disk);
        page.state = State::Hidden;
    }

    /// The page at `base`; `make` makes its memory.
    fn page(&mut self, base: u64, make: impl FnOnce() -> Arc<RegisterPage>) -> &mut Page {
        let addr = base - base % PAGE_SIZE;
        let known = self.pages.iter().position(|page| page.addr == addr);
        let index = known.unwrap_or_else(|| {
            let (registers, waiting) = (make(), Vec::new());
            self.pages.push(Page { addr, registers, waiting, state: State::Empty });
            self.pages.len() - 1
        });
        &mut self.pages[index]
    }

    /// Maps the pages whose drivers have all completed their handshake.
    pub(crate) fn look(&mut self) {
        for page in self.pages.iter_mut().filter(|page| page.state == State::Hidden) {
            page.waiting.retain(|disk| !disk.was_used());
        }
        self.show();
    }

    /// Calls `work` while every read of a register is an exit.
    ///
    /// # Errors
    ///
    /// If KVM does not remove a page; `work` is not called then.
    pub(crate) fn hidden<T>(&mut self, during: impl FnOnce() -> T) -> Result<T, kvm_ioctls::Error> {
        let done = self.hide().map(|()| during());
        self.show();
        done
    }

    fn hide(&mut self) -> Result<(), kvm_ioctls::Error> {
        let Some(memory) = &self.memory else { return Ok(()) };
        for (slot, page) in (FIRST_SLOT..).zip(&mut self.pages) {
            if page.state == State::Shown {
                memory.hide(slot, page.addr)?;
                page.state = State::Hidden;
            }
        }
        Ok(())
    }

    fn show(&mut self) {
        let Some(memory) = &self.memory else { return };
        for (slot, page) in (FIRST_SLOT..).zip(&mut self.pages) {
            if page.state != State::Hidden || !page.waiting.is_empty() {
                continue;
            }
            page.state = match memory.show(slot, page.addr, &page.registers) {
                Ok(()) => {
                    debug!("the registers at {:#x} can be read without an exit now", page.addr);
                    State::Shown
                }
                Err(error) => {
                    warn!(
                        "KVM does not map the page of registers at {:#x}: {error}; each read of a register is an exit",
                        page.addr
                    );
                    State::Refused
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    const FIRST: u64 = 0xfeb0_0000;
    const SECOND: u64 = FIRST + PAGE_SIZE;

    /// A KVM that refuses what a test chooses, and records its calls.
    #[derive(Clone, Default)]
    struct FakeMemory(Arc<Mutex<(Vec<u64>, Vec<String>)>>);

    impl FakeMemory {
        fn asked(&self, what: &str, slot: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.1.push(format!("{what} {slot} {addr:#x}"));
            let refused = inner.0.contains(&addr);
            if refused { Err(kvm_ioctls::Error::new(libc::ENOMEM)) } else { Ok(()) }
        }

        fn refuse(&self, addrs: &[u64]) {
            self.0.lock().unwrap().0 = addrs.to_vec();
        }

        /// The calls since the last time.
        fn log(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap().1)
        }
    }

    impl MemorySlots for FakeMemory {
        fn show(&self, slot: u32, addr: u64, _: &RegisterPage) -> Result<(), kvm_ioctls::Error> {
            self.asked("show", slot, addr)
        }

        fn hide(&self, slot: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
            self.asked("hide", slot, addr)
        }
    }

    /// Two pages whose drivers have all completed their handshake.
    fn two_pages() -> (RegisterPages, FakeMemory) {
        let memory = FakeMemory::default();
        let mut pages = RegisterPages { memory: Some(Box::new(memory.clone())), pages: Vec::new() };
        for addr in [FIRST, SECOND] {
            pages.page(addr, RegisterPage::new).state = State::Hidden;
        }
        (pages, memory)
    }

    #[test]
    fn pages_are_hidden_for_a_while_and_shown_again() {
        let (mut pages, memory) = two_pages();
        pages.look();
        assert_eq!(memory.log(), ["show 8 0xfeb00000", "show 9 0xfeb01000"]);
        let during = pages.hidden(|| memory.log()).unwrap();
        assert_eq!(during, ["hide 8 0xfeb00000", "hide 9 0xfeb01000"]);
        assert_eq!(memory.log(), ["show 8 0xfeb00000", "show 9 0xfeb01000"]);
    }

    #[test]
    fn a_shown_page_is_hidden_also_where_another_was_refused() {
        let (mut pages, memory) = two_pages();
        memory.refuse(&[SECOND]);
        pages.look();
        assert_eq!(memory.log(), ["show 8 0xfeb00000", "show 9 0xfeb01000"]);
        let during = pages.hidden(|| memory.log()).unwrap();
        assert_eq!(during, ["hide 8 0xfeb00000"]);
        assert_eq!(memory.log(), ["show 8 0xfeb00000"], "what was refused is not asked again");
    }

    #[test]
    fn a_page_that_cannot_be_hidden_leaves_the_others_as_they_were() {
        let (mut pages, memory) = two_pages();
        pages.look();
        memory.log();
        memory.refuse(&[SECOND]);
        assert!(pages.hidden(|| panic!("done while a page was shown")).is_err());
        assert_eq!(memory.log(), ["hide 8 0xfeb00000", "hide 9 0xfeb01000", "show 8 0xfeb00000"]);
    }
}
