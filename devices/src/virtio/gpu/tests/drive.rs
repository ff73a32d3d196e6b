//! A driver for a GPU, for the tests beside it.

use std::sync::Arc;

use super::super::{Gpu, GpuOptions};
use crate::bus::BusDevice;
use crate::display::{Rect, Screen};
use crate::observe::Tap;
use crate::testing::virtio_driver::{DATA, LARGE, VirtioDriver, reg};
use crate::testing::{CountingLine, Ring};
use crate::virtio::mmio::MmioOptions;
use crate::virtio::spec::feature::{GPU_EDID, RING_INDIRECT_DESC, VERSION_1};

/// Where the driver keeps a command.
pub(super) const COMMAND: u64 = DATA;
/// Where the driver keeps a response.
pub(super) const RESPONSE: u64 = DATA + 0x8000;
/// From where on it keeps pictures: 256 KiB.
pub(super) const PICTURE: u64 = DATA + 0x2_0000;

pub(super) const OK: u32 = 0x1100;
pub(super) const UNSPEC: u32 = 0x1200;
pub(super) const OUT_OF_MEMORY: u32 = 0x1201;
pub(super) const NO_SCANOUT: u32 = 0x1202;
pub(super) const NO_RESOURCE: u32 = 0x1203;
pub(super) const PARAMETER: u32 = 0x1205;

/// A driver and its device.
pub(super) struct Tested {
    pub(super) driver: VirtioDriver,
    pub(super) gpu: Arc<Gpu>,
    /// The ring of the cursor queue.
    pub(super) cursor: Ring,
    /// Woken when work is left.
    pub(super) leftover: CountingLine,
}

impl Tested {
    /// A display of 32x16, and 64 KiB for pictures.
    pub(super) fn new() -> Self {
        Self::observed(Tap::default())
    }

    pub(super) fn observed(tap: Tap) -> Self {
        let options = GpuOptions { width: 32, height: 16, max_host_memory: 64 << 10 };
        Self::with(&options, tap)
    }

    pub(super) fn with(options: &GpuOptions, tap: Tap) -> Self {
        let gpu = Arc::new(Gpu::new("gpu", options, Screen::default(), tap));
        let leftover = CountingLine::default();
        let options =
            MmioOptions { leftover: Some(Arc::new(leftover.clone())), ..MmioOptions::default() };
        let driver = VirtioDriver::of(gpu.clone(), options);
        let cursor = Ring::contiguous(8, LARGE, 4);
        let mut tested = Self { driver, gpu, cursor, leftover };
        tested.start(GPU_EDID);
        tested
    }

    pub(super) fn start(&mut self, features: u64) {
        assert!(self.driver.negotiate(VERSION_1 | RING_INDIRECT_DESC | features));
        assert!(self.driver.set_up_queue(16));
        assert!(self.driver.set_up_ring(1, &mut self.cursor));
        self.driver.go_live();
    }

    /// The bytes of a command: a header without a fence, and fields.
    pub(super) fn command(kind: u32, fields: &[u32]) -> Vec<u8> {
        let header = [kind, 0, 0, 0, 0, 0];
        header.iter().chain(fields).flat_map(|field| field.to_le_bytes()).collect()
    }

    /// Sends a command with so many bytes for the response; the response.
    pub(super) fn send(&mut self, command: &[u8], response: u32) -> Vec<u8> {
        self.driver.write(COMMAND, command);
        self.driver.write(RESPONSE, &[0xee; 2048]);
        let len = u32::try_from(command.len()).unwrap();
        self.driver.chain(0, &[(COMMAND, len, false), (RESPONSE, response, true)]);
        self.driver.offer(0);
        self.driver.kick();
        let (head, len) = self.driver.pop().expect("an answer");
        assert_eq!(head, 0);
        let bytes = self.driver.bytes(RESPONSE, 2048);
        assert!(bytes[len as usize..].iter().all(|byte| *byte == 0xee));
        bytes[..len as usize].to_vec()
    }

    /// Sends a command that is answered by a header alone; its type.
    pub(super) fn ask(&mut self, kind: u32, fields: &[u32]) -> u32 {
        let response = self.send(&Self::command(kind, fields), 24);
        assert_eq!((response.len(), &response[4..]), (24, &[0; 20][..]));
        u32::from_le_bytes(response[..4].try_into().unwrap())
    }

    /// Sends a cursor command without room for a response.
    pub(super) fn ask_cursor(&mut self, kind: u32, fields: &[u32]) {
        let command = Self::command(kind, fields);
        self.driver.write(COMMAND, &command);
        let ram = self.driver.ram.clone();
        self.cursor.chain(&ram, 0, &[(COMMAND, u32::try_from(command.len()).unwrap(), false)]);
        self.cursor.offer(&ram, 0);
        self.driver.kick_queue(1);
        assert_eq!(self.cursor.pop(&ram), Some((0, 0)));
    }

    pub(super) fn create(&mut self, id: u32, format: u32, width: u32, height: u32) -> u32 {
        self.ask(0x101, &[id, format, width, height])
    }

    /// Gives a resource the backing at these addresses.
    pub(super) fn attach(&mut self, id: u32, entries: &[(u64, u32)]) -> u32 {
        let mut fields = vec![id, u32::try_from(entries.len()).unwrap()];
        for (addr, len) in entries {
            let (low, high) = ((addr & 0xffff_ffff) as u32, (addr >> 32) as u32);
            fields.extend([low, high, *len, 0]);
        }
        self.ask(0x106, &fields)
    }

    pub(super) fn transfer(&mut self, id: u32, rect: Rect, offset: u64) -> u32 {
        let (low, high) = ((offset & 0xffff_ffff) as u32, (offset >> 32) as u32);
        let Rect { x, y, width, height } = rect;
        self.ask(0x105, &[x, y, width, height, low, high, id, 0])
    }

    pub(super) fn set_scanout(&mut self, id: u32, rect: Rect) -> u32 {
        self.ask(0x103, &[rect.x, rect.y, rect.width, rect.height, 0, id])
    }

    pub(super) fn flush(&mut self, id: u32, rect: Rect) -> u32 {
        self.ask(0x104, &[rect.x, rect.y, rect.width, rect.height, id, 0])
    }

    /// A resource with a backing at [`PICTURE`].
    pub(super) fn resource(&mut self, id: u32, format: u32, width: u32, height: u32) {
        assert_eq!(self.create(id, format, width, height), OK);
        assert_eq!(self.attach(id, &[(PICTURE, 4 * width * height)]), OK);
    }

    /// The picture on the screen: width, height, pixels.
    pub(super) fn picture(&self) -> (u32, u32, Vec<u32>) {
        self.gpu
            .screen()
            .look(|picture, _| (picture.width(), picture.height(), picture.pixels().to_vec()))
    }

    pub(super) fn config(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.driver.mmio.read(reg::CONFIG + at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

pub(super) const fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}
