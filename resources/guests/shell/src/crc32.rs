//! CRC-32 as in zlib, gzip and PNG: reflected polynomial 0xedb88320, start and end inverted. On the host:
//! `python3 -c 'import zlib,sys; print(hex(zlib.crc32(sys.stdin.buffer.read())))'`.

/// `TABLES[n][b]`: what byte b does to the register when n more bytes follow it. Eight tables, so that eight bytes
/// are taken at a time: three instructions a byte, where one table needs seven.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 == 0 { register >> 1 } else { register >> 1 ^ POLYNOMIAL };
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut later = 1;
    while later < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[later - 1][byte];
            tables[later][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        later += 1;
    }
    tables
}

/// A checksum under way.
pub(crate) struct Crc32(u32);

impl Crc32 {
    /// Of no bytes.
    pub(crate) const fn new() -> Crc32 {
        Crc32(!0)
    }

    /// Eight more bytes, the first one lowest.
    #[inline]
    pub(crate) fn add8(&mut self, bytes: u64) {
        let word = bytes ^ u64::from(self.0);
        let at = |n: u32| (word >> (8 * n) & 0xff) as usize;
        self.0 = TABLES[7][at(0)]
            ^ TABLES[6][at(1)]
            ^ TABLES[5][at(2)]
            ^ TABLES[4][at(3)]
            ^ TABLES[3][at(4)]
            ^ TABLES[2][at(5)]
            ^ TABLES[1][at(6)]
            ^ TABLES[0][at(7)];
    }

    /// One more byte.
    pub(crate) fn add1(&mut self, byte: u8) {
        self.0 = self.0 >> 8 ^ TABLES[0][usize::from(self.0 as u8 ^ byte)];
    }

    /// The checksum.
    pub(crate) const fn value(&self) -> u32 {
        !self.0
    }
}
