//! A virtio device of any kind in the hands of a test: any features, any number of queues.

use drivers::virtio::spec::{self, MAGIC, VERSION, feature, status};
use rt::command_line::{self, VirtioSlot};
use rt::mmio::Mmio;

use crate::{Failure, Outcome, Ring, ensure, ensure_eq, fail};

/// QueueReset (4.2.2).
const QUEUE_RESET: u64 = 0x0c0;

/// The slots on the command line that have a device with this ID. Other devices may stand among them.
pub fn slots(id: u32) -> impl Iterator<Item = VirtioSlot> {
    command_line::virtio_slots()
        .filter(move |slot| Device::at(*slot).is_ok_and(|device| device.id() == id))
}

/// A virtio device.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its registers.
    pub window: Mmio,
    /// Its interrupt line.
    pub line: u8,
}

impl Device {
    /// Number `index`, from 0, of those on the command line that have this device ID.
    pub fn nth(index: usize, id: u32) -> Result<Device, Failure> {
        match slots(id).nth(index) {
            Some(slot) => Device::at(slot),
            None => fail!("no device number {index} with the ID {id} on the command line"),
        }
    }

    /// The one in this slot.
    pub fn at(slot: VirtioSlot) -> Result<Device, Failure> {
        let VirtioSlot { base, size, line } = slot;
        let Some(window) = Mmio::outside_ram(base, size) else { fail!("RAM at {base:#x}") };
        ensure_eq!(spec::MAGIC_VALUE.read(window), MAGIC, "MagicValue");
        ensure_eq!(spec::DEVICE_VERSION.read(window), VERSION, "Version");
        Ok(Device { window, line })
    }

    /// Its device ID.
    pub fn id(self) -> u32 {
        spec::DEVICE_ID.read(self.window)
    }

    /// From a reset to FEATURES_OK with `wanted`, all of which it must offer, and VERSION_1.
    pub fn negotiate(self, wanted: u64) -> Outcome {
        let (w, wanted) = (self.window, wanted | feature::VERSION_1);
        self.reset()?;
        spec::STATUS.write(w, status::ACKNOWLEDGE);
        spec::STATUS.write(w, status::ACKNOWLEDGE | status::DRIVER);
        for half in 0..2 {
            spec::DEVICE_FEATURES_SEL.write(w, half);
            spec::DRIVER_FEATURES_SEL.write(w, half);
            let wanted = (wanted >> (32 * half) & 0xffff_ffff) as u32;
            let offered = spec::DEVICE_FEATURES.read(w);
            ensure!(
                offered & wanted == wanted,
                "features {wanted:#x} of half {half} are not all offered: {offered:#x}"
            );
            spec::DRIVER_FEATURES.write(w, wanted);
        }
        let bits = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        spec::STATUS.write(w, bits);
        ensure_eq!(spec::STATUS.read(w), bits, "Status after FEATURES_OK");
        Ok(())
    }

    /// Says where the selected queue's table, available ring and used ring are.
    pub fn place_queue(self, [table, available, used]: [u64; 3]) {
        for (low, high, address) in [
            (spec::QUEUE_DESC_LOW, spec::QUEUE_DESC_HIGH, table),
            (spec::QUEUE_DRIVER_LOW, spec::QUEUE_DRIVER_HIGH, available),
            (spec::QUEUE_DEVICE_LOW, spec::QUEUE_DEVICE_HIGH, used),
        ] {
            low.write(self.window, (address & 0xffff_ffff) as u32);
            high.write(self.window, (address >> 32) as u32);
        }
    }

    /// Says where queue `index` is, and that it is ready.
    pub fn give_queue(self, index: u16, ring: &Ring) -> Outcome {
        let w = self.window;
        spec::QUEUE_SEL.write(w, index.into());
        ensure_eq!(spec::QUEUE_READY.read(w), 0, "QueueReady of queue {index}");
        let most = spec::QUEUE_NUM_MAX.read(w);
        ensure!(most >= ring.size().into(), "queue {index} has {most} entries at most");
        spec::QUEUE_NUM.write(w, ring.size().into());
        self.place_queue(ring.addresses());
        spec::QUEUE_READY.write(w, 1);
        ensure_eq!(spec::QUEUE_READY.read(w), 1, "QueueReady of queue {index}");
        Ok(())
    }

    /// DRIVER_OK. A device that looks into its queues without a doorbell may need a reset already, if what it finds
    /// there is broken.
    pub fn start(self) -> Outcome {
        let bits = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        spec::STATUS.write(self.window, bits);
        let read = spec::STATUS.read(self.window);
        ensure_eq!(read & !status::NEEDS_RESET, bits, "Status after DRIVER_OK");
        Ok(())
    }

    /// The doorbell of a queue.
    #[inline]
    pub fn notify(self, queue: u16) {
        spec::QUEUE_NOTIFY.write(self.window, queue.into());
    }

    /// Resets it; it is done when Status reads 0 (2.4.2, 4.2.2.2).
    pub fn reset(self) -> Outcome {
        spec::STATUS.write(self.window, 0);
        ensure_eq!(spec::STATUS.read(self.window), 0, "Status after a reset");
        Ok(())
    }

    /// Resets one queue; it is done when QueueReset reads 0 (2.6.1).
    pub fn reset_queue(self, index: u16) -> Outcome {
        spec::QUEUE_SEL.write(self.window, index.into());
        self.window.write32(QUEUE_RESET, 1);
        ensure_eq!(self.window.read32(QUEUE_RESET), 0, "QueueReset of queue {index}");
        ensure_eq!(spec::QUEUE_READY.read(self.window), 0, "QueueReady of queue {index}");
        Ok(())
    }
}
