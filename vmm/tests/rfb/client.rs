//! A VNC client for tests: it decodes what a server sends into a picture. It shares no code with the server.

use flate2::{Decompress, FlushDecompress};

/// The bits of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) bits: u8,
    pub(crate) depth: u8,
    pub(crate) big_endian: bool,
    pub(crate) max: [u16; 3],
    pub(crate) shift: [u8; 3],
}

impl Format {
    pub(crate) const NATIVE: Self =
        Self { bits: 32, depth: 24, big_endian: false, max: [255; 3], shift: [16, 8, 0] };

    fn bytes(&self) -> usize {
        usize::from(self.bits) / 8
    }

    /// SetPixelFormat.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, self.bits, self.depth, self.big_endian.into(), 1];
        self.max.iter().for_each(|max| bytes.extend(max.to_be_bytes()));
        bytes.extend(self.shift);
        bytes.extend([0; 3]);
        bytes
    }

    fn value(&self, bytes: &[u8]) -> u32 {
        let fold = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        if self.big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
    }

    /// The bytes of a pixel of ZRLE, and what they are shifted by.
    fn compact(&self) -> (usize, u32) {
        let used = (0..3).fold(0, |used, n| used | u32::from(self.max[n]) << self.shift[n]);
        if self.bits != 32 || self.depth > 24 {
            (self.bytes(), 0)
        } else if used >> 24 == 0 {
            (3, 0)
        } else if used & 0xff == 0 {
            (3, 8)
        } else {
            (4, 0)
        }
    }

    /// What 0x00RRGGBB is in this format.
    pub(crate) fn of(&self, pixel: u32) -> u32 {
        (0..3).fold(0, |value, n| {
            let level = u64::from(pixel >> (16 - 8 * n) & 0xff);
            let max = u64::from(self.max[n]);
            value | u32::try_from((level * max + 127) / 255).unwrap() << self.shift[n]
        })
    }
}

/// A cursor that the client draws.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClientCursor {
    pub(crate) hot: (u16, u16),
    pub(crate) size: (u16, u16),
    pub(crate) pixels: Vec<u32>,
    pub(crate) mask: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Version,
    Securities,
    Result,
    Init,
    Ready,
}

/// What is not complete.
struct Short;

/// A client: what the server sent until now.
pub(crate) struct Client {
    state: State,
    input: Vec<u8>,
    /// Rectangles of an update that are missing.
    left: u16,
    inflate: Decompress,
    pub(crate) format: Format,
    pub(crate) size: (u16, u16),
    /// In the client's format.
    pub(crate) pixels: Vec<u32>,
    pub(crate) name: String,
    pub(crate) refused: Option<String>,
    pub(crate) updates: usize,
    pub(crate) rectangles: usize,
    pub(crate) cursor: Option<ClientCursor>,
    /// Reason, status, size.
    pub(crate) sizes: Vec<(u16, u16, (u16, u16))>,
    pub(crate) extended_key: bool,
    pub(crate) map: Vec<[u16; 3]>,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Version,
            input: Vec::new(),
            left: 0,
            inflate: Decompress::new(true),
            format: Format::NATIVE,
            size: (0, 0),
            pixels: Vec::new(),
            name: String::new(),
            refused: None,
            updates: 0,
            rectangles: 0,
            cursor: None,
            sizes: Vec::new(),
            extended_key: false,
            map: Vec::new(),
        }
    }

    /// What a client sends for a handshake.
    pub(crate) const HELLO: &[u8] = b"RFB 003.008\n\x01\x01";

    /// SetEncodings.
    pub(crate) fn encodings(encodings: &[i32]) -> Vec<u8> {
        let mut bytes = vec![2, 0];
        bytes.extend(u16::try_from(encodings.len()).unwrap().to_be_bytes());
        encodings.iter().for_each(|encoding| bytes.extend(encoding.to_be_bytes()));
        bytes
    }

    /// FramebufferUpdateRequest for the whole picture.
    pub(crate) fn request(&self, incremental: bool) -> Vec<u8> {
        let mut bytes = vec![3, incremental.into(), 0, 0, 0, 0];
        bytes.extend(self.size.0.to_be_bytes());
        bytes.extend(self.size.1.to_be_bytes());
        bytes
    }

    /// Whether nothing of a message is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Ready && self.input.is_empty() && self.left == 0
    }

    pub(crate) fn pixel(&self, x: u32, y: u32) -> u32 {
        self.pixels[(y * u32::from(self.size.0) + x) as usize]
    }

    /// Takes bytes of the server.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        let mut done = 0;
        loop {
            let mut at = done;
            // What is taken is removed only if all is there.
            if self.message(&mut at).is_err() {
                break;
            }
            done = at;
        }
        self.input.drain(..done);
    }

    fn take<'a>(input: &'a [u8], at: &mut usize, len: usize) -> Result<&'a [u8], Short> {
        let bytes = input.get(*at..*at + len).ok_or(Short)?;
        *at += len;
        Ok(bytes)
    }

    fn u16(input: &[u8], at: &mut usize) -> Result<u16, Short> {
        Ok(u16::from_be_bytes(Self::take(input, at, 2)?.try_into().unwrap()))
    }

    fn u32(input: &[u8], at: &mut usize) -> Result<u32, Short> {
        Ok(u32::from_be_bytes(Self::take(input, at, 4)?.try_into().unwrap()))
    }

    fn text(input: &[u8], at: &mut usize) -> Result<String, Short> {
        let len = Self::u32(input, at)?;
        assert!(len < 1000, "a text of {len} bytes");
        let text = Self::take(input, at, len as usize)?;
        Ok(String::from_utf8(text.to_vec()).unwrap())
    }

    fn message(&mut self, at: &mut usize) -> Result<(), Short> {
        let input = std::mem::take(&mut self.input);
        let result = self.message_in(&input, at);
        self.input = input;
        result
    }

    fn message_in(&mut self, input: &[u8], at: &mut usize) -> Result<(), Short> {
        match self.state {
            State::Version => {
                assert_eq!(Self::take(input, at, 12)?, b"RFB 003.008\n");
                self.state = State::Securities;
            }
            State::Securities => {
                let count = Self::take(input, at, 1)?[0];
                if count == 0 {
                    self.refused = Some(Self::text(input, at)?);
                    return Ok(());
                }
                assert_eq!((count, Self::take(input, at, 1)?), (1, &[1][..]));
                self.state = State::Result;
            }
            State::Result => {
                if Self::u32(input, at)? != 0 {
                    self.refused = Some(Self::text(input, at)?);
                    return Ok(());
                }
                self.state = State::Init;
            }
            State::Init => {
                let size = (Self::u16(input, at)?, Self::u16(input, at)?);
                Self::take(input, at, 16)?;
                self.name = Self::text(input, at)?;
                self.resize(size);
                self.state = State::Ready;
            }
            State::Ready if self.left > 0 => {
                self.rectangle(input, at)?;
                self.left -= 1;
                self.rectangles += 1;
                if self.left == 0 {
                    self.updates += 1;
                }
            }
            State::Ready => match Self::take(input, at, 1)?[0] {
                0 => {
                    Self::take(input, at, 1)?;
                    self.left = Self::u16(input, at)?;
                    assert!(self.left > 0, "an update without rectangles");
                }
                1 => {
                    Self::take(input, at, 3)?;
                    let count = Self::u16(input, at)?;
                    let mut map = Vec::new();
                    for _ in 0..count {
                        map.push([
                            Self::u16(input, at)?,
                            Self::u16(input, at)?,
                            Self::u16(input, at)?,
                        ]);
                    }
                    self.map = map;
                }
                other => panic!("message {other}"),
            },
        }
        Ok(())
    }

    fn resize(&mut self, size: (u16, u16)) {
        if self.size != size {
            self.size = size;
            // Not a colour that the tests draw.
            self.pixels = vec![0xdead_beef; usize::from(size.0) * usize::from(size.1)];
        }
    }

    fn rectangle(&mut self, input: &[u8], at: &mut usize) -> Result<(), Short> {
        let [x, y, width, height] = [
            Self::u16(input, at)?,
            Self::u16(input, at)?,
            Self::u16(input, at)?,
            Self::u16(input, at)?,
        ];
        let encoding = Self::u32(input, at)?.cast_signed();
        let count = usize::from(width) * usize::from(height);
        match encoding {
            0 => {
                let bytes = Self::take(input, at, count * self.format.bytes())?;
                let values: Vec<_> =
                    bytes.chunks(self.format.bytes()).map(|b| self.format.value(b)).collect();
                self.paint((x, y, width, height), &values);
            }
            16 => {
                let len = Self::u32(input, at)? as usize;
                let zlib = Self::take(input, at, len)?;
                let plain = self.inflate(zlib);
                let values = Zrle { bytes: &plain, format: self.format }.decode(width, height);
                self.paint((x, y, width, height), &values);
            }
            -239 => {
                let pixels = Self::take(input, at, count * self.format.bytes())?;
                let mask = usize::from(width).div_ceil(8) * usize::from(height);
                let mask = Self::take(input, at, mask)?.to_vec();
                let pixels = pixels.chunks(self.format.bytes()).map(|b| self.format.value(b));
                let (hot, size) = ((x, y), (width, height));
                self.cursor = Some(ClientCursor { hot, size, pixels: pixels.collect(), mask });
            }
            -223 => {
                assert_eq!(self.left, 1, "DesktopSize is the last rectangle");
                self.sizes.push((0, 0, (width, height)));
                self.resize((width, height));
            }
            -308 => {
                assert_eq!(Self::take(input, at, 4)?, [1, 0, 0, 0]);
                let screen = Self::take(input, at, 16)?;
                assert_eq!(screen[8..10], width.to_be_bytes());
                assert_eq!(screen[10..12], height.to_be_bytes());
                self.sizes.push((x, y, (width, height)));
                // With another status than 0, the client keeps its size.
                if y == 0 {
                    self.resize((width, height));
                }
            }
            -258 => self.extended_key = true,
            other => panic!("encoding {other}"),
        }
        Ok(())
    }

    fn paint(&mut self, (x, y, width, height): (u16, u16, u16, u16), values: &[u32]) {
        let [x, y, width, height] = [x, y, width, height].map(usize::from);
        let across = usize::from(self.size.0);
        assert!(x + width <= across && y + height <= usize::from(self.size.1));
        for (row, values) in (y..y + height).zip(values.chunks(width)) {
            self.pixels[row * across + x..row * across + x + width].copy_from_slice(values);
        }
    }

    fn inflate(&mut self, zlib: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(1 << 20);
        let before = self.inflate.total_in();
        loop {
            plain.reserve(1 << 16);
            let taken = usize::try_from(self.inflate.total_in() - before).unwrap();
            self.inflate.decompress_vec(&zlib[taken..], &mut plain, FlushDecompress::Sync).unwrap();
            if plain.len() < plain.capacity() {
                break;
            }
        }
        assert_eq!(self.inflate.total_in() - before, zlib.len() as u64);
        plain
    }
}

/// Decodes the plain bytes of a rectangle.
struct Zrle<'a> {
    bytes: &'a [u8],
    format: Format,
}

impl Zrle<'_> {
    fn byte(&mut self) -> usize {
        let (first, rest) = self.bytes.split_first().unwrap();
        self.bytes = rest;
        usize::from(*first)
    }

    fn pixel(&mut self) -> u32 {
        let (len, shift) = self.format.compact();
        let (bytes, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        self.format.value(bytes) << shift
    }

    fn length(&mut self) -> usize {
        let mut len = 1;
        loop {
            let more = self.byte();
            len += more;
            if more < 255 {
                return len;
            }
        }
    }

    fn decode(mut self, width: u16, height: u16) -> Vec<u32> {
        let (width, height) = (usize::from(width), usize::from(height));
        let mut all = vec![0; width * height];
        for top in (0..height).step_by(64) {
            for left in (0..width).step_by(64) {
                let (w, h) = (64.min(width - left), 64.min(height - top));
                let tile = self.tile(w, h);
                assert_eq!(tile.len(), w * h);
                for (row, values) in tile.chunks(w).enumerate() {
                    let at = (top + row) * width + left;
                    all[at..at + w].copy_from_slice(values);
                }
            }
        }
        assert!(self.bytes.is_empty(), "{} bytes are left", self.bytes.len());
        all
    }

    fn tile(&mut self, width: usize, height: usize) -> Vec<u32> {
        let count = width * height;
        let kind = self.byte();
        let mut tile = Vec::new();
        match kind {
            0 => tile.extend((0..count).map(|_| self.pixel())),
            1 => tile.resize(count, self.pixel()),
            2..=16 => {
                let palette: Vec<_> = (0..kind).map(|_| self.pixel()).collect();
                let bits = match kind {
                    2 => 1,
                    3 | 4 => 2,
                    _ => 4,
                };
                for _ in 0..height {
                    let row = (width * bits).div_ceil(8);
                    let bytes: Vec<_> = (0..row).map(|_| self.byte()).collect();
                    for x in 0..width {
                        let bit = x * bits;
                        let index = bytes[bit / 8] >> (8 - bits - bit % 8) & ((1 << bits) - 1);
                        tile.push(palette[index]);
                    }
                }
            }
            128 => {
                while tile.len() < count {
                    let (pixel, len) = (self.pixel(), self.length());
                    tile.extend(vec![pixel; len]);
                }
            }
            130..=255 => {
                let palette: Vec<_> = (0..kind - 128).map(|_| self.pixel()).collect();
                while tile.len() < count {
                    let index = self.byte();
                    let len = if index & 128 == 0 { 1 } else { self.length() };
                    tile.extend(vec![palette[index & 127]; len]);
                }
            }
            other => panic!("subencoding {other}"),
        }
        tile
    }
}
