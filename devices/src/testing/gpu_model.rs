//! What a GPU must do: resources, the screen and the cursor in plain code, pixel by pixel.

use std::collections::BTreeMap;

use crate::memory::GuestRam;

/// The most entries of one backing.
pub const ENTRIES_MAX: u32 = 65536;

const OK: u32 = 0x1100;
const UNSPEC: u32 = 0x1200;
const OUT_OF_MEMORY: u32 = 0x1201;
const NO_SCANOUT: u32 = 0x1202;
const NO_RESOURCE: u32 = 0x1203;
const PARAMETER: u32 = 0x1205;

/// A resource.
#[derive(Debug, Clone)]
struct Resource {
    /// The places of blue, green, red and alpha in a pixel.
    places: [usize; 4],
    has_alpha: bool,
    width: u32,
    height: u32,
    bytes: Vec<u8>,
    /// Addresses and lengths.
    backing: Option<Vec<(u64, u64)>>,
}

/// The cursor: its picture with its hot spot, and the place of its upper left corner.
pub type ModelCursor = (Option<(Vec<u32>, u32, u32)>, i32, i32);

/// A GPU.
#[derive(Debug)]
pub struct GpuModel {
    resources: BTreeMap<u32, Resource>,
    /// The resource, and x, y, width and height.
    scanout: Option<(u32, [u32; 4])>,
    memory_max: u64,
    /// The display.
    pub display: (u32, u32),
    /// The screen's width and height.
    pub size: (u32, u32),
    /// The screen's pixels.
    pub pixels: Vec<u32>,
    /// The cursor.
    pub cursor: ModelCursor,
}

/// The orders of bytes: the number of a format, and the places of blue, green, red and alpha.
const FORMATS: [(u32, [usize; 4], bool); 8] = [
    (1, [0, 1, 2, 3], true),
    (2, [0, 1, 2, 3], false),
    (3, [3, 2, 1, 0], true),
    (4, [3, 2, 1, 0], false),
    (67, [2, 1, 0, 3], true),
    (68, [1, 2, 3, 0], false),
    (121, [1, 2, 3, 0], true),
    (134, [2, 1, 0, 3], false),
];

impl Resource {
    fn contains(&self, [x, y, width, height]: [u32; 4]) -> bool {
        let within = |at: u32, len: u32, most: u32| u64::from(at) + u64::from(len) <= most.into();
        within(x, width, self.width) && within(y, height, self.height)
    }

    /// The pixel as 0xAARRGGBB.
    fn pixel(&self, x: u32, y: u32) -> u32 {
        let at = 4 * (y as usize * self.width as usize + x as usize);
        let [b, g, r, a] = self.places.map(|place| u32::from(self.bytes[at + place]));
        (if self.has_alpha { a } else { 0xff }) << 24 | r << 16 | g << 8 | b
    }

    /// The address of a byte of the backing.
    fn address(&self, offset: u64) -> Option<u64> {
        let mut rest = offset;
        for (addr, len) in self.backing.as_ref()? {
            if rest < *len {
                return Some(addr + rest);
            }
            rest -= len;
        }
        None
    }
}

impl GpuModel {
    /// A GPU with this display.
    pub fn new(display: (u32, u32), memory_max: u64) -> Self {
        let mut model = Self {
            resources: BTreeMap::new(),
            scanout: None,
            memory_max,
            display,
            size: (0, 0),
            pixels: Vec::new(),
            cursor: (None, 0, 0),
        };
        model.reset();
        model
    }

    /// A reset.
    pub fn reset(&mut self) {
        self.resources.clear();
        self.scanout = None;
        self.cursor = (None, 0, 0);
        self.black(self.display);
    }

    /// Another size of the display.
    pub fn resize(&mut self, width: u32, height: u32) {
        let display = (width.clamp(16, 4095), height.clamp(16, 4095));
        if self.display != display {
            self.display = display;
            if self.scanout.is_none() {
                self.black(display);
            }
        }
    }

    /// The width and height of a resource.
    pub fn size_of(&self, id: u32) -> Option<(u32, u32)> {
        self.resources.get(&id).map(|resource| (resource.width, resource.height))
    }

    fn black(&mut self, size: (u32, u32)) {
        self.size = size;
        self.pixels = vec![0; size.0 as usize * size.1 as usize];
    }

    /// Carries out a command of these bytes on a queue. Returns the type of the response.
    ///
    /// # Panics
    ///
    /// If the model is wrong.
    pub fn command(&mut self, queue: u32, bytes: &[u8], edid: bool, ram: &GuestRam) -> u32 {
        let field = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let kind = field(0);
        let size = match kind {
            0x100 => 24,
            0x102 | 0x106 | 0x107 | 0x10a => 32,
            0x101 => 40,
            0x103 | 0x104 => 48,
            0x105 | 0x300 | 0x301 => 56,
            _ => return UNSPEC,
        };
        if bytes.len() < size || (kind >= 0x300) != (queue == 1) {
            return UNSPEC;
        }
        let rect = [24, 28, 32, 36].map(field);
        let outcome = match kind {
            0x100 => Ok(0x1101),
            0x101 => self.create(rect),
            0x102 => self.unref(field(24)),
            0x103 => self.set_scanout(rect, field(40), field(44)),
            0x104 => self.flush(rect, field(40)),
            0x105 => {
                let offset = u64::from(field(40)) | u64::from(field(44)) << 32;
                self.transfer(rect, offset, field(48), ram)
            }
            0x106 => self.attach(field(24), field(28), &bytes[32..], ram),
            0x107 => self.detach(field(24)),
            0x10a if !edid => Err(UNSPEC),
            0x10a if field(24) != 0 => Err(NO_SCANOUT),
            0x10a => Ok(0x1104),
            0x300 => self.update_cursor([24, 28, 32, 40, 44, 48].map(field)),
            _ => self.move_cursor([24, 28, 32].map(field)),
        };
        outcome.unwrap_or_else(|error| error)
    }

    fn create(&mut self, [id, format, width, height]: [u32; 4]) -> Result<u32, u32> {
        if id == 0 || self.resources.contains_key(&id) {
            return Err(NO_RESOURCE);
        }
        let known = FORMATS.iter().find(|(number, ..)| *number == format);
        let Some(&(_, places, has_alpha)) = known else { return Err(PARAMETER) };
        if width == 0 || height == 0 || width > 8192 || height > 8192 {
            return Err(PARAMETER);
        }
        let used: usize = self.resources.values().map(|resource| resource.bytes.len()).sum();
        let len = 4 * width as usize * height as usize;
        if used as u64 + len as u64 > self.memory_max || self.resources.len() == 4096 {
            return Err(OUT_OF_MEMORY);
        }
        let bytes = vec![0; len];
        let resource = Resource { places, has_alpha, width, height, bytes, backing: None };
        self.resources.insert(id, resource);
        Ok(OK)
    }

    fn unref(&mut self, id: u32) -> Result<u32, u32> {
        self.resources.remove(&id).ok_or(NO_RESOURCE)?;
        if self.scanout.is_some_and(|(shown, _)| shown == id) {
            self.scanout = None;
            self.black(self.display);
        }
        Ok(OK)
    }

    fn set_scanout(&mut self, rect: [u32; 4], scanout: u32, id: u32) -> Result<u32, u32> {
        if scanout != 0 {
            return Err(NO_SCANOUT);
        }
        if id == 0 {
            self.scanout = None;
            self.black(self.display);
            return Ok(OK);
        }
        let resource = self.resources.get(&id).ok_or(NO_RESOURCE)?;
        if !resource.contains(rect) || rect[2] == 0 || rect[3] == 0 {
            return Err(PARAMETER);
        }
        self.scanout = Some((id, rect));
        if self.size != (rect[2], rect[3]) {
            self.black((rect[2], rect[3]));
        }
        self.flush(rect, id)
    }

    fn flush(&mut self, rect: [u32; 4], id: u32) -> Result<u32, u32> {
        let resource = self.resources.get(&id).ok_or(NO_RESOURCE)?;
        if !resource.contains(rect) {
            return Err(PARAMETER);
        }
        let Some((_, shown)) = self.scanout.filter(|(shown, _)| *shown == id) else {
            return Ok(OK);
        };
        let covers = |[x, y, width, height]: [u32; 4], at: (u32, u32)| {
            at.0 >= x && at.0 - x < width && at.1 >= y && at.1 - y < height
        };
        for y in 0..shown[3] {
            for x in 0..shown[2] {
                let (from_x, from_y) = (shown[0] + x, shown[1] + y);
                if covers(rect, (from_x, from_y)) {
                    let pixel = resource.pixel(from_x, from_y) & 0xff_ffff;
                    self.pixels[y as usize * shown[2] as usize + x as usize] = pixel;
                }
            }
        }
        Ok(OK)
    }

    fn transfer(
        &mut self,
        rect: [u32; 4],
        offset: u64,
        id: u32,
        ram: &GuestRam,
    ) -> Result<u32, u32> {
        let resource = self.resources.get_mut(&id).ok_or(NO_RESOURCE)?;
        if !resource.contains(rect) {
            return Err(PARAMETER);
        }
        let Some(backing) = &resource.backing else { return Err(UNSPEC) };
        let [x, y, width, height] = rect.map(|field| field as usize);
        if width == 0 || height == 0 {
            return Ok(OK);
        }
        let (len, stride): (u128, _) =
            (backing.iter().map(|part| u128::from(part.1)).sum(), 4 * resource.width as usize);
        if u128::from(offset) + ((height - 1) * stride + 4 * width) as u128 > len {
            return Err(PARAMETER);
        }
        for row in 0..height {
            for byte in 0..4 * width {
                let from = offset + (row * stride + byte) as u64;
                let [value] =
                    resource.address(from).map_or([0], |addr| ram.read(addr).unwrap_or_default());
                resource.bytes[(y + row) * stride + 4 * x + byte] = value;
            }
        }
        Ok(OK)
    }

    fn attach(&mut self, id: u32, entries: u32, bytes: &[u8], ram: &GuestRam) -> Result<u32, u32> {
        let resource = self.resources.get_mut(&id).ok_or(NO_RESOURCE)?;
        if resource.backing.is_some() {
            return Err(UNSPEC);
        }
        if entries > ENTRIES_MAX {
            return Err(OUT_OF_MEMORY);
        }
        let (list, _) = bytes.as_chunks::<16>();
        let Some(list) = list.get(..entries as usize) else { return Err(UNSPEC) };
        let mut backing = Vec::new();
        for entry in list {
            let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *entry;
            let addr = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let len = u64::from(u32::from_le_bytes([i, j, k, l]));
            ram.check(addr, len).map_err(|_| PARAMETER)?;
            backing.push((addr, len));
        }
        resource.backing = Some(backing);
        Ok(OK)
    }

    fn detach(&mut self, id: u32) -> Result<u32, u32> {
        let resource = self.resources.get_mut(&id).ok_or(NO_RESOURCE)?;
        resource.backing.take().map(|_| OK).ok_or(UNSPEC)
    }

    fn update_cursor(&mut self, [scanout, x, y, id, hot_x, hot_y]: [u32; 6]) -> Result<u32, u32> {
        if scanout != 0 {
            return Err(NO_SCANOUT);
        }
        let mut image = None;
        if id != 0 {
            let resource = self.resources.get(&id).ok_or(NO_RESOURCE)?;
            if (resource.width, resource.height) != (64, 64) {
                return Err(PARAMETER);
            }
            let pixels = (0..4096).map(|n| resource.pixel(n % 64, n / 64)).collect();
            image = Some((pixels, hot_x.min(63), hot_y.min(63)));
        }
        self.cursor = (image, x.cast_signed(), y.cast_signed());
        Ok(OK)
    }

    fn move_cursor(&mut self, [scanout, x, y]: [u32; 3]) -> Result<u32, u32> {
        if scanout != 0 {
            return Err(NO_SCANOUT);
        }
        (self.cursor.1, self.cursor.2) = (x.cast_signed(), y.cast_signed());
        Ok(OK)
    }
}
