//! The handshake: fixed newstyle, STARTTLS, STRUCTURED_REPLY, GO ("Fixed newstyle negotiation" of the specification).
//!
//! It works on any stream of bytes. The stream has the limit of time, and no reply allocates more than [`MOST_REPLY`].

use std::fmt;
use std::io::{self, Read, Write};

use super::wire::{
    Fields, NBD_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, USUAL_MAXIMUM, export_flag,
    handshake_flag, info, option, option_reply, readable,
};
use crate::block::SECTOR_SIZE;

/// The most bytes of a reply to an option. Those that are used, and texts of the longest kind, are shorter.
const MOST_REPLY: u32 = 16 << 10;
/// The most replies to one option: a server may send information without a request for it.
const MOST_REPLIES: usize = 64;
/// The largest minimum block size ("Block size constraints").
const MOST_MINIMUM: u32 = 64 << 10;

/// A step of a connection, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The first bytes of the server.
    Greeting,
    /// NBD_OPT_STARTTLS.
    StartTls,
    /// NBD_OPT_STRUCTURED_REPLY.
    StructuredReply,
    /// NBD_OPT_GO.
    Go,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "greeting",
            Self::StartTls => "NBD_OPT_STARTTLS",
            Self::StructuredReply => "NBD_OPT_STRUCTURED_REPLY",
            Self::Go => "NBD_OPT_GO",
        })
    }
}

/// An export, as the server describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Export {
    /// In bytes: whole sectors and whole minimum blocks, at least one.
    pub(crate) size: u64,
    /// The transmission flags.
    pub(crate) flags: u16,
    /// Whether reads are answered by structured replies.
    pub(crate) structured: bool,
    /// Requests must begin and end at multiples of this: a power of two.
    pub(crate) minimum: u32,
    /// Requests should be multiples of this: a power of two.
    pub(crate) preferred: u32,
    /// The most bytes of a read or write: a multiple of the minimum.
    pub(crate) maximum: u32,
}

impl Export {
    /// Whether it has this transmission flag.
    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// What it offers, in words.
    pub(crate) fn describe(&self) -> String {
        let commands = [
            (export_flag::READ_ONLY, "read-only"),
            (export_flag::SEND_FLUSH, "flush"),
            (export_flag::SEND_FUA, "FUA"),
            (export_flag::SEND_TRIM, "trim"),
            (export_flag::SEND_WRITE_ZEROES, "write zeroes"),
            (export_flag::CAN_MULTI_CONN, "several connections"),
        ];
        let mut words: Vec<_> =
            commands.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, word)| *word).collect();
        if self.structured {
            words.push("structured replies");
        }
        let Self { minimum, maximum, .. } = self;
        format!("{}; requests of {minimum} to {maximum} bytes", words.join(", "))
    }
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The connection failed.
    #[error("{step}: {}", transport(.source))]
    Io {
        /// The step.
        step: Step,
        /// The host's error.
        source: io::Error,
    },
    /// The server does not speak NBD.
    #[error("greeting: the server begins with {:?}, which is not NBD; is another service on this port?", readable(.0))]
    NotNbd([u8; 8]),
    /// The server speaks the first version of the protocol.
    #[error(
        "greeting: the server speaks the old style of NBD, which has no export names; use a server with the newstyle (since 2011)"
    )]
    OldStyle,
    /// The server cannot answer options.
    #[error(
        "greeting: the server has no fixed newstyle handshake (flags {0:#x}); use a newer server"
    )]
    NotFixed(u16),
    /// The reply to an option has a wrong magic number.
    #[error("{step}: a reply begins with {magic:#018x}, which is no magic number of a reply")]
    Magic {
        /// The step.
        step: Step,
        /// The first 8 bytes.
        magic: u64,
    },
    /// The reply is to another option.
    #[error("{step}: the server answers option {option}, which was not asked")]
    OtherOption {
        /// The step.
        step: Step,
        /// The option in the reply.
        option: u32,
    },
    /// The reply is longer than any that is known.
    #[error("{step}: a reply of type {kind:#x} has {len} bytes; at most {MOST_REPLY} are accepted")]
    Oversize {
        /// The step.
        step: Step,
        /// Its type.
        kind: u32,
        /// Its length in bytes.
        len: u32,
    },
    /// Too many replies to one option.
    #[error(
        "{0}: the server does not stop to answer: {MOST_REPLIES} replies, and none ends the option"
    )]
    Endless(Step),
    /// A reply of a type that does not belong here.
    #[error("{step}: a reply has the unexpected type {kind:#x}")]
    Unexpected {
        /// The step.
        step: Step,
        /// Its type.
        kind: u32,
    },
    /// The server refuses.
    #[error("{step}: the server refuses: {reason}{}", said(.text))]
    Refused {
        /// The step.
        step: Step,
        /// The reason, and what to do.
        reason: &'static str,
        /// The server's words.
        text: String,
    },
    /// The server describes an export that cannot be.
    #[error("NBD_OPT_GO: {0}")]
    BadExport(BadExport),
}

/// Why an export cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadExport {
    /// It has no bytes.
    #[error("the export has 0 bytes, and a disk needs at least one sector of 512 bytes")]
    Empty,
    /// Its end is within a sector.
    #[error(
        "the export has {0} bytes, which are no whole sectors of 512 bytes; let the server round its size"
    )]
    Ragged(u64),
    /// Its end is within a minimum block.
    #[error(
        "the export has {size} bytes, which are no whole blocks of the server's minimum of {minimum} bytes"
    )]
    RaggedBlocks {
        /// The size in bytes.
        size: u64,
        /// The minimum block size.
        minimum: u32,
    },
    /// Offsets would not fit into 63 bits.
    #[error("the export has {0} bytes, and at most 2^63 - 1 are possible")]
    Huge(u64),
    /// The server acknowledges without a size.
    #[error("the server tells no size (no NBD_INFO_EXPORT)")]
    NoSize,
    /// Information of a wrong length.
    #[error("the information {kind} has {len} bytes")]
    InfoLength {
        /// Its kind.
        kind: u16,
        /// Its length.
        len: usize,
    },
    /// The flags lack the one that all exports have.
    #[error("the transmission flags {0:#x} lack NBD_FLAG_HAS_FLAGS")]
    NoFlags(u16),
    /// Block sizes against the rules.
    #[error(
        "the block sizes {minimum}, {preferred} and {maximum} (minimum, preferred, maximum) break the rules of NBD"
    )]
    BlockSizes {
        /// The minimum.
        minimum: u32,
        /// The preferred size.
        preferred: u32,
        /// The maximum.
        maximum: u32,
    },
}

/// An error of a connection in words.
pub(super) fn transport(error: &io::Error) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | BrokenPipe | ConnectionReset => {
            "the server closed the connection".to_owned()
        }
        io::ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (the server says: {text})") }
}

type Outcome<T> = Result<T, HandshakeError>;

/// Reads the greeting and answers it.
///
/// # Errors
///
/// If the server speaks no fixed newstyle NBD.
pub(crate) fn greet(stream: &mut (impl Read + Write)) -> Outcome<()> {
    const OLD_STYLE: u64 = 0x0000_4202_8186_1253;
    let step = Step::Greeting;
    let magic: [u8; 8] = read(stream, step)?;
    if u64::from_be_bytes(magic) != NBD_MAGIC {
        return Err(HandshakeError::NotNbd(magic));
    }
    match u64::from_be_bytes(read(stream, step)?) {
        OPTION_MAGIC => {}
        OLD_STYLE => return Err(HandshakeError::OldStyle),
        magic => return Err(HandshakeError::Magic { step, magic }),
    }
    let flags = u16::from_be_bytes(read(stream, step)?);
    if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
        return Err(HandshakeError::NotFixed(flags));
    }
    let flags = flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
    write(stream, step, &u32::from(flags).to_be_bytes())
}

/// Asks for TLS, which begins when this returns.
///
/// # Errors
///
/// If the server has none.
pub(crate) fn start_tls(stream: &mut (impl Read + Write)) -> Outcome<()> {
    let step = Step::StartTls;
    ask(stream, step, option::STARTTLS, &[])?;
    match reply(stream, step, option::STARTTLS)? {
        Reply { kind: option_reply::ACK, .. } => Ok(()),
        other => Err(other.refused(step)),
    }
}

/// Asks for structured replies and for the export. The transmission begins when this returns.
///
/// # Errors
///
/// If the server refuses, or its export cannot be used.
pub(crate) fn go(stream: &mut (impl Read + Write), export: &str) -> Outcome<Export> {
    let step = Step::StructuredReply;
    ask(stream, step, option::STRUCTURED_REPLY, &[])?;
    let structured = match reply(stream, step, option::STRUCTURED_REPLY)? {
        Reply { kind: option_reply::ACK, .. } => true,
        // They are no more than a way to say the same.
        Reply { kind: option_reply::ERR_UNSUP | option_reply::ERR_POLICY, .. } => false,
        Reply { kind: option_reply::ERR_INVALID, .. } => false,
        other => return Err(other.refused(step)),
    };
    let step = Step::Go;
    let name_len = u32::try_from(export.len()).unwrap_or(u32::MAX);
    let mut content = name_len.to_be_bytes().to_vec();
    content.extend(export.as_bytes());
    content.extend(1u16.to_be_bytes());
    content.extend(info::BLOCK_SIZE.to_be_bytes());
    ask(stream, step, option::GO, &content)?;
    let mut told = Told::default();
    for _ in 0..MOST_REPLIES {
        let answer = reply(stream, step, option::GO)?;
        match answer.kind {
            option_reply::ACK => return told.export(structured).map_err(HandshakeError::BadExport),
            option_reply::INFO => {
                told.info(&answer.content).map_err(HandshakeError::BadExport)?;
            }
            _ => return Err(answer.refused(step)),
        }
    }
    Err(HandshakeError::Endless(step))
}

/// The information of a server about an export.
#[derive(Default)]
struct Told {
    export: Option<(u64, u16)>,
    blocks: Option<(u32, u32, u32)>,
}

impl Told {
    fn info(&mut self, content: &[u8]) -> Result<(), BadExport> {
        let mut fields = Fields(content);
        let len = content.len();
        let kind = fields.u16().ok_or(BadExport::InfoLength { kind: 0, len })?;
        let bad = BadExport::InfoLength { kind, len };
        match kind {
            info::EXPORT if len == 12 => self.export = fields.u64().zip(fields.u16()),
            info::BLOCK_SIZE if len == 14 => {
                let three = (fields.u32(), fields.u32(), fields.u32());
                let (Some(minimum), Some(preferred), Some(maximum)) = three else {
                    return Err(bad);
                };
                self.blocks = Some((minimum, preferred, maximum));
            }
            info::EXPORT | info::BLOCK_SIZE => return Err(bad),
            // Names and descriptions.
            _ => {}
        }
        Ok(())
    }

    fn export(&self, structured: bool) -> Result<Export, BadExport> {
        let (size, flags) = self.export.ok_or(BadExport::NoSize)?;
        // Without the server's word, 1 to 32 MiB in any place are allowed.
        let (minimum, preferred, maximum) = self.blocks.unwrap_or((1, 4096, USUAL_MAXIMUM));
        let are_powers = minimum.is_power_of_two() && preferred.is_power_of_two();
        let in_order = minimum <= MOST_MINIMUM && minimum <= preferred && preferred <= maximum;
        if !are_powers || !in_order {
            return Err(BadExport::BlockSizes { minimum, preferred, maximum });
        }
        match size {
            _ if flags & export_flag::HAS_FLAGS == 0 => Err(BadExport::NoFlags(flags)),
            0 => Err(BadExport::Empty),
            _ if i64::try_from(size).is_err() => Err(BadExport::Huge(size)),
            _ if !size.is_multiple_of(SECTOR_SIZE) => Err(BadExport::Ragged(size)),
            _ if !size.is_multiple_of(minimum.into()) => {
                Err(BadExport::RaggedBlocks { size, minimum })
            }
            _ => {
                let maximum = maximum.min(USUAL_MAXIMUM) / minimum * minimum;
                Ok(Export { size, flags, structured, minimum, preferred, maximum })
            }
        }
    }
}

/// The reply to an option.
struct Reply {
    kind: u32,
    content: Vec<u8>,
}

impl Reply {
    fn refused(self, step: Step) -> HandshakeError {
        let reason = match self.kind {
            option_reply::ERR_UNSUP if step == Step::StartTls => {
                "it has no TLS; use nbd instead of nbds, or give the server a certificate"
            }
            option_reply::ERR_UNSUP => "it does not know this option; use a newer server",
            option_reply::ERR_POLICY => "its administrator forbids it",
            option_reply::ERR_INVALID => "it takes the request as malformed",
            option_reply::ERR_PLATFORM => "its platform does not support it",
            option_reply::ERR_TLS_REQD => "it requires TLS; use nbds instead of nbd",
            option_reply::ERR_UNKNOWN => "it has no export of this name; see 'nbdinfo --list'",
            option_reply::ERR_SHUTDOWN => "it is being shut down",
            option_reply::ERR_BLOCK_SIZE_REQD => "it requires block sizes that were asked for",
            option_reply::ERR_TOO_BIG => "the name of the export is too long for it",
            kind if kind & option_reply::ERROR != 0 => "with an error that is not known",
            kind => return HandshakeError::Unexpected { step, kind },
        };
        HandshakeError::Refused { step, reason, text: readable(&self.content) }
    }
}

fn ask(stream: &mut (impl Read + Write), step: Step, option: u32, content: &[u8]) -> Outcome<()> {
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(content);
    write(stream, step, &bytes)
}

fn reply(stream: &mut (impl Read + Write), step: Step, asked: u32) -> Outcome<Reply> {
    let magic = u64::from_be_bytes(read(stream, step)?);
    if magic != OPTION_REPLY_MAGIC {
        return Err(HandshakeError::Magic { step, magic });
    }
    let option = u32::from_be_bytes(read(stream, step)?);
    let kind = u32::from_be_bytes(read(stream, step)?);
    let len = u32::from_be_bytes(read(stream, step)?);
    if option != asked {
        return Err(HandshakeError::OtherOption { step, option });
    }
    if len > MOST_REPLY {
        return Err(HandshakeError::Oversize { step, kind, len });
    }
    let mut content = vec![0; len as usize];
    stream.read_exact(&mut content).map_err(|source| HandshakeError::Io { step, source })?;
    Ok(Reply { kind, content })
}

fn read<const N: usize>(stream: &mut impl Read, step: Step) -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(|source| HandshakeError::Io { step, source })?;
    Ok(bytes)
}

fn write(stream: &mut impl Write, step: Step, bytes: &[u8]) -> Outcome<()> {
    let wrote = stream.write_all(bytes).and_then(|()| stream.flush());
    wrote.map_err(|source| HandshakeError::Io { step, source })
}
