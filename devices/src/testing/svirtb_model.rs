//! A model of svirtb after svirtb.md, simple and slow, on plain vectors. It shares no code with the device, and reports
//! no reasons.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a model for tests")]

/// Status: a device is here.
pub const MAGIC: u32 = 0x7472_6976;
/// Status: the driver is here.
pub const DRIVER_OK: u32 = 0;
/// Status: live.
pub const READY: u32 = 1;
/// Status: an error; written, a reset.
pub const RESET: u32 = 2;

const STATUS: usize = 0;
const SIZE: usize = 1;
const ADDR_HI: usize = 2;
const ADDR_LO: usize = 3;
const HEAD: usize = 4;
const TAIL: usize = 5;

/// A whole machine: guest RAM, the image, the registers.
pub struct Model {
    /// Ranges of RAM that do not touch each other.
    pub ram: Vec<(u64, Vec<u8>)>,
    /// The image's bytes.
    pub image: Vec<u8>,
    /// By offset.
    pub registers: [u32; 6],
    /// Entries that succeeded, in all.
    pub served: usize,
    /// Entries that stopped the device, in all.
    pub refused: usize,
    read_only: bool,
    /// The distance of entries, if it is configured.
    given: Option<u64>,
    /// The distance, when it is known.
    stride: Option<u64>,
}

impl Model {
    /// A machine with RAM full of zeros and an unused device.
    pub fn new(ram: &[(u64, usize)], image: &[u8], read_only: bool, given: Option<u64>) -> Self {
        Self {
            ram: ram.iter().map(|&(base, len)| (base, vec![0; len])).collect(),
            image: image.to_vec(),
            registers: [MAGIC, 0, 0, 0, 0, 0],
            served: 0,
            refused: 0,
            read_only,
            given,
            stride: None,
        }
    }

    /// What the guest reads at `offset` of the device.
    pub fn read(&self, offset: u64, width: usize) -> Vec<u8> {
        match offset {
            0 | 4 | 8 | 12 | 16 | 20 if width == 4 => {
                self.registers[usize::try_from(offset / 4).unwrap()].to_le_bytes().to_vec()
            }
            _ => vec![0; width],
        }
    }

    /// The guest writes at `offset` of the device.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(bytes) = data.try_into() else { return };
        let value = u32::from_le_bytes(bytes);
        match (offset, self.registers[STATUS]) {
            (0, now) => self.write_status(now, value),
            (4, DRIVER_OK) => self.registers[SIZE] = value,
            (8, DRIVER_OK) => self.registers[ADDR_HI] = value,
            (12, DRIVER_OK) => self.registers[ADDR_LO] = value,
            (16, READY) => self.doorbell(value),
            _ => {}
        }
    }

    /// The guest's bytes, where all of them are RAM.
    pub fn bytes(&mut self, addr: u64, len: u64) -> Option<&mut [u8]> {
        if len == 0 {
            return Some(&mut []);
        }
        let (from, to) = (u128::from(addr), u128::from(addr) + u128::from(len));
        self.ram.iter_mut().find_map(|(base, bytes)| {
            let base = u128::from(*base);
            let inside = from >= base && to <= base + bytes.len() as u128;
            inside.then(|| {
                let at = |x: u128| usize::try_from(x - base).unwrap();
                &mut bytes[at(from)..at(to)]
            })
        })
    }

    fn write_status(&mut self, now: u32, value: u32) {
        if value == RESET {
            self.registers = [MAGIC, 0, 0, 0, 0, 0];
        } else if now == MAGIC && value == DRIVER_OK {
            self.registers[STATUS] = DRIVER_OK;
        } else if now == DRIVER_OK && value == READY && self.ring_fits(self.given.unwrap_or(28)) {
            self.registers[STATUS] = READY;
            self.stride = self.given;
        } else {
            self.registers[STATUS] = RESET;
        }
    }

    fn ring(&self) -> u64 {
        u64::from(self.registers[ADDR_HI]) << 32 | u64::from(self.registers[ADDR_LO])
    }

    fn ring_fits(&mut self, stride: u64) -> bool {
        let (base, size) = (self.ring(), u64::from(self.registers[SIZE]));
        size > 0 && self.bytes(base, size * stride).is_some()
    }

    fn doorbell(&mut self, head: u32) {
        self.registers[HEAD] = head;
        if head >= self.registers[SIZE] {
            self.registers[STATUS] = RESET;
            return;
        }
        while self.registers[TAIL] != head {
            if self.entry(u64::from(self.registers[TAIL])).is_none() {
                self.refused += 1;
                self.registers[STATUS] = RESET;
                return;
            }
            self.served += 1;
            self.registers[TAIL] = (self.registers[TAIL] + 1) % self.registers[SIZE];
        }
    }

    /// Serves one entry; none where that is an error.
    fn entry(&mut self, index: u64) -> Option<()> {
        if index > 0 && self.stride.is_none() {
            let packed = self.plausible(index, 28);
            let padded = self.ring_fits(32) && (self.plausible(index, 32) || !packed);
            self.stride = Some(if padded { 32 } else { 28 });
            // A ring that ends with RAM cannot be padded.
            if !self.ring_fits(32) {
                self.stride = Some(28);
            }
        }
        let [addr, size, sector, cmd] = self.fields(index, self.stride.unwrap_or(32))?;
        if cmd > 1 {
            return None;
        }
        if size == 0 {
            return Some(());
        }
        self.bytes(addr, size)?;
        let disk = self.image.len();
        let start = usize::try_from(sector.checked_mul(512)?).unwrap_or(usize::MAX).min(disk);
        let len = usize::try_from(size).unwrap().min(disk - start);
        if cmd == 1 && (self.read_only || start == disk) {
            return None;
        }
        let there = start..start + len;
        if cmd == 0 {
            let bytes = self.image[there].to_vec();
            self.bytes(addr, len as u64)?.copy_from_slice(&bytes);
        } else {
            let bytes = self.bytes(addr, len as u64)?.to_vec();
            self.image[there].copy_from_slice(&bytes);
        }
        Some(())
    }

    fn fields(&mut self, index: u64, stride: u64) -> Option<[u64; 4]> {
        let bytes = self.bytes(self.ring() + index * stride, 28)?;
        let le64 = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let cmd = u32::from_le_bytes(bytes[24..].try_into().unwrap());
        Some([le64(0), le64(8), le64(16), cmd.into()])
    }

    fn plausible(&mut self, index: u64, stride: u64) -> bool {
        self.fields(index, stride)
            .is_some_and(|[addr, size, _, cmd]| cmd <= 1 && self.bytes(addr, size.max(1)).is_some())
    }
}
