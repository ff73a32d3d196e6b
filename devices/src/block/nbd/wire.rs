//! The numbers of the NBD protocol, and its messages in the phase of transmission.
//!
//! All sections are those of the protocol's specification, `doc/proto.md` of the project NetworkBlockDevice/nbd. All
//! numbers are big-endian.

/// The first 8 bytes of a server, "NBDMAGIC".
pub(crate) const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT": the second 8 bytes of a server, and the first 8 of each option.
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The first 8 bytes of the reply to an option.
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Flags of the server ("Handshake flags"); the client's have the same numbers.
pub(crate) mod handshake_flag {
    /// The server sends replies to options.
    pub(crate) const FIXED_NEWSTYLE: u16 = 1;
    /// No zeros follow the reply to EXPORT_NAME.
    pub(crate) const NO_ZEROES: u16 = 2;
}

/// Options of the client ("Option types").
pub(crate) mod option {
    /// Begins TLS.
    pub(crate) const STARTTLS: u32 = 5;
    /// Asks for an export, and begins the transmission.
    pub(crate) const GO: u32 = 7;
    /// Asks for structured replies.
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
}

/// Replies to options ("Option reply types").
pub(crate) mod option_reply {
    /// The option is done.
    pub(crate) const ACK: u32 = 1;
    /// A part of the answer to GO.
    pub(crate) const INFO: u32 = 3;
    /// Set in all errors.
    pub(crate) const ERROR: u32 = 1 << 31;
    /// The server does not know the option.
    pub(crate) const ERR_UNSUP: u32 = ERROR | 1;
    /// The server's administrator forbids it.
    pub(crate) const ERR_POLICY: u32 = ERROR | 2;
    /// The option is malformed, or not possible now.
    pub(crate) const ERR_INVALID: u32 = ERROR | 3;
    /// Not on this platform.
    pub(crate) const ERR_PLATFORM: u32 = ERROR | 4;
    /// The server wants TLS first.
    pub(crate) const ERR_TLS_REQD: u32 = ERROR | 5;
    /// The export does not exist.
    pub(crate) const ERR_UNKNOWN: u32 = ERROR | 6;
    /// The server ends.
    pub(crate) const ERR_SHUTDOWN: u32 = ERROR | 7;
    /// The client must ask for the block sizes.
    pub(crate) const ERR_BLOCK_SIZE_REQD: u32 = ERROR | 8;
    /// The option is too long.
    pub(crate) const ERR_TOO_BIG: u32 = ERROR | 9;
}

/// Kinds of information in the answer to GO.
pub(crate) mod info {
    /// The size and the transmission flags.
    pub(crate) const EXPORT: u16 = 0;
    /// The block sizes.
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do ("Transmission flags").
pub(crate) mod export_flag {
    /// Set in all of them.
    pub(crate) const HAS_FLAGS: u16 = 1;
    /// It may not be written.
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    /// It has FLUSH.
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    /// It has FUA.
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    /// It has TRIM.
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    /// It has WRITE_ZEROES.
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// Several connections see the same data, and a flush covers all of them.
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Flags of a request ("Command flags").
pub(crate) mod command_flag {
    /// The data is on stable storage before the reply.
    pub(crate) const FUA: u16 = 1;
    /// WRITE_ZEROES must not free the space.
    pub(crate) const NO_HOLE: u16 = 2;
}

/// The most bytes of a request where the server tells no limit ("Block size constraints").
pub(crate) const USUAL_MAXIMUM: u32 = 32 << 20;
/// The longest text of the protocol ("Terms and conventions": strings are at most 4096 bytes).
pub(crate) const LONGEST_TEXT: usize = 4096;

/// The request types in use ("Request types").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Command {
    /// Reads.
    Read = 0,
    /// Writes.
    Write = 1,
    /// Ends the connection; has no reply.
    Disconnect = 2,
    /// Makes all answered writes stable.
    Flush = 3,
    /// Discards.
    Trim = 4,
    /// Writes zeros.
    WriteZeroes = 6,
}

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub(crate) flags: u16,
    pub(crate) command: Command,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// The bytes of a request's header.
pub(crate) const REQUEST_LEN: usize = 28;
const REQUEST_MAGIC: u32 = 0x2560_9513;

impl RequestHeader {
    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        let parts: [&[u8]; 6] = [
            &REQUEST_MAGIC.to_be_bytes(),
            &self.flags.to_be_bytes(),
            &(self.command as u16).to_be_bytes(),
            &self.cookie.to_be_bytes(),
            &self.offset.to_be_bytes(),
            &self.len.to_be_bytes(),
        ];
        for (place, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }
}

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
const SIMPLE_LEN: usize = 16;
const CHUNK_LEN: usize = 20;
/// The flag of a chunk that is the last one of its reply.
const DONE: u16 = 1;
/// Set in the type of all chunks that are errors.
const ERROR_BIT: u16 = 1 << 15;

/// The begin of a reply, or of one of its chunks. Data may follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) cookie: u64,
    /// Whether nothing follows for this request, except for the data.
    pub(crate) is_last: bool,
    pub(crate) body: Body,
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// A simple reply without an error. After a read all its data follows.
    Simple,
    /// A chunk that only ends its reply.
    None,
    /// Data of a read, which follows.
    Data {
        /// The first byte on the disk.
        offset: u64,
        /// The bytes that follow.
        len: u32,
    },
    /// A part of a read that has zeros only.
    Hole {
        /// The first byte on the disk.
        offset: u64,
        /// The number of zeros.
        len: u32,
    },
    /// An error.
    Error {
        /// Its number, never 0.
        error: u32,
        /// The server's words, which may be any bytes.
        text: Vec<u8>,
    },
}

/// Why bytes are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a reply begins with {0:#010x}, which is no magic number of a reply")]
    Magic(u32),
    #[error("a chunk of type {kind} has {len} bytes, which it cannot have")]
    ChunkLength { kind: u16, len: u32 },
    #[error("a chunk has the unknown type {0}")]
    ChunkType(u16),
    #[error("a chunk without data does not end its reply")]
    NotLast,
    #[error("an error has the number 0")]
    NoError,
    #[error("an error has a text of {text} bytes in a chunk of {len}")]
    TextLength { text: usize, len: u32 },
}

/// Takes integers and bytes off the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// The most bytes that [`Head::decode`] looks at.
pub(crate) const LONGEST_HEAD: usize = CHUNK_LEN + 6 + LONGEST_TEXT + 8;

impl Head {
    /// Decodes what begins with `bytes`. Returns the number of its bytes, too; none if there are too few. Data that
    /// follows is not part of it.
    ///
    /// # Errors
    ///
    /// If it is no reply.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
        let mut fields = Fields(bytes);
        match fields.u32() {
            None => Ok(None),
            Some(SIMPLE_MAGIC) => Ok(Self::simple(fields).map(|head| (head, SIMPLE_LEN))),
            Some(STRUCTURED_MAGIC) => Self::chunk(fields),
            Some(other) => Err(WireError::Magic(other)),
        }
    }

    fn simple(mut fields: Fields<'_>) -> Option<Self> {
        let (error, cookie) = (fields.u32()?, fields.u64()?);
        let body = match error {
            0 => Body::Simple,
            error => Body::Error { error, text: Vec::new() },
        };
        Some(Self { cookie, is_last: true, body })
    }

    fn chunk(mut fields: Fields<'_>) -> Result<Option<(Self, usize)>, WireError> {
        let begin = (fields.u16(), fields.u16(), fields.u64(), fields.u32());
        let (Some(flags), Some(kind), Some(cookie), Some(len)) = begin else { return Ok(None) };
        let is_last = flags & DONE != 0;
        // An unknown error is an error; its content begins as that of the known ones.
        let bad_length = match kind {
            0 => len != 0,
            1 => len <= 8,
            2 => len != 12,
            _ if kind & ERROR_BIT != 0 => !(6..=6 + LONGEST_TEXT + 8).contains(&(len as usize)),
            other => return Err(WireError::ChunkType(other)),
        };
        if bad_length {
            return Err(WireError::ChunkLength { kind, len });
        }
        let (content, body) = match kind {
            0 if !is_last => return Err(WireError::NotLast),
            0 => (0, Some(Body::None)),
            1 => (8, fields.u64().map(|offset| Body::Data { offset, len: len - 8 })),
            2 => {
                let hole = fields.u64().zip(fields.u32());
                (12, hole.map(|(offset, len)| Body::Hole { offset, len }))
            }
            _ => {
                let content = fields.bytes(len as usize).map(|bytes| Self::error(bytes, len));
                (len as usize, content.transpose()?)
            }
        };
        Ok(body.map(|body| (Self { cookie, is_last, body }, CHUNK_LEN + content)))
    }

    fn error(content: &[u8], len: u32) -> Result<Body, WireError> {
        let mut fields = Fields(content);
        let (error, text) = (fields.u32().unwrap_or(0), usize::from(fields.u16().unwrap_or(0)));
        if error == 0 {
            return Err(WireError::NoError);
        }
        let bytes = fields.bytes(text).ok_or(WireError::TextLength { text, len })?;
        Ok(Body::Error { error, text: bytes.to_vec() })
    }
}

/// Text of the server as a person may read it: one line, at most 200 characters.
pub(crate) fn readable(text: &[u8]) -> String {
    const MOST: usize = 200;
    let lossy = String::from_utf8_lossy(text);
    let mut chars = lossy.trim().chars();
    let shown: String = chars.by_ref().take(MOST).flat_map(char::escape_debug).collect();
    if chars.next().is_some() { format!("{shown}...") } else { shown }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
