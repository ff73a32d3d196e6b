//! The messages of RFB 3.8, as bytes: RFC 6143, and the community's specification of RFB (rfbproto) for extensions.
//!
//! A decoder keeps at most [`HEAD_MAX`] bytes. What is longer and not needed is skipped as it arrives.

use cafevm_devices::display::Rect;

/// The most bytes that are kept of a message that is not complete.
pub(super) const HEAD_MAX: usize = 20;

/// Encodings of pixels, and pseudo-encodings (RFC 6143, 7.7 and 7.8; rfbproto).
pub(super) mod encoding {
    pub(in super::super) const RAW: i32 = 0;
    pub(in super::super) const ZRLE: i32 = 16;
    /// The client draws the cursor.
    pub(in super::super) const CURSOR: i32 = -239;
    pub(in super::super) const DESKTOP_SIZE: i32 = -223;
    pub(in super::super) const EXTENDED_DESKTOP_SIZE: i32 = -308;
    /// The client sends scan codes, too.
    pub(in super::super) const QEMU_EXTENDED_KEY: i32 = -258;
}

/// Why the server sends the size (rfbproto, ExtendedDesktopSize).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SizeReason {
    /// The guest changed it, or the client asked for the size.
    Server = 0,
    /// An answer to this client's SetDesktopSize.
    Client = 1,
}

/// The answer to a SetDesktopSize (rfbproto, ExtendedDesktopSize).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SizeStatus {
    Done = 0,
    InvalidLayout = 3,
    /// The guest decides.
    Forwarded = 4,
}

/// A message of the client after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClientMessage {
    /// The 16 bytes of the format.
    SetPixelFormat([u8; 16]),
    /// The begin of SetEncodings with this many encodings; each follows.
    SetEncodings(u16),
    Encoding(i32),
    UpdateRequest {
        incremental: bool,
        area: Rect,
    },
    Key {
        down: bool,
        keysym: u32,
    },
    Pointer {
        buttons: u8,
        x: u16,
        y: u16,
    },
    /// Text of the client's clipboard; the text is skipped.
    CutText,
    /// The list of screens is skipped.
    SetDesktopSize {
        width: u16,
        height: u16,
        screens: u8,
    },
    ExtendedKey {
        down: bool,
        keysym: u32,
        scancode: u32,
    },
}

/// A message that the server does not know, so that it does not know its length either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// An unknown message.
    #[error("message {0} is not known to this server, which did not offer it")]
    Message(u8),
    /// An unknown message of QEMU's.
    #[error("message 255, {0} is not known to this server, which did not offer it")]
    QemuMessage(u8),
}

/// The first bytes of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    bytes: [u8; HEAD_MAX],
    len: usize,
}

impl Head {
    /// Takes bytes from `input` until there are `wanted`, at most [`HEAD_MAX`].
    pub(super) fn fill(&mut self, input: &mut &[u8], wanted: usize) -> Option<&[u8]> {
        let missing = wanted.min(HEAD_MAX).saturating_sub(self.len);
        let (taken, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if let Some(free) = self.bytes.get_mut(self.len..self.len + taken.len()) {
            free.copy_from_slice(taken);
        }
        self.len += taken.len();
        (self.len >= wanted).then(|| self.bytes.get(..wanted)).flatten()
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }
}

/// Decodes the messages of a client after the handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Decoder {
    head: Head,
    /// Bytes to skip.
    skip: u64,
    /// Encodings that follow.
    encodings: u16,
}

impl Decoder {
    /// Takes the next message from the front of `input`; none if it is not complete, and `input` is then empty.
    ///
    /// # Errors
    ///
    /// If the message is not known: its length is not known either.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<ClientMessage>, WireError> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(input.len());
        *input = input.get(skipped..).unwrap_or_default();
        self.skip -= skipped as u64;
        if self.encodings > 0 {
            let Some(bytes) = self.head.fill(input, 4) else { return Ok(None) };
            let encoding = u32_at(bytes, 0).cast_signed();
            self.head.clear();
            self.encodings -= 1;
            return Ok(Some(ClientMessage::Encoding(encoding)));
        }
        let Some(&[kind]) = self.head.fill(input, 1) else { return Ok(None) };
        let len = match kind {
            0 => 20,
            2 => 4,
            3 => 10,
            4 | 6 | 251 => 8,
            5 => 6,
            255 => match self.head.fill(input, 2) {
                Some([_, 0]) => 12,
                Some([_, other]) => return Err(WireError::QemuMessage(*other)),
                _ => return Ok(None),
            },
            other => return Err(WireError::Message(other)),
        };
        let Some(head) = self.head.fill(input, len) else { return Ok(None) };
        let message = match kind {
            0 => ClientMessage::SetPixelFormat(std::array::from_fn(|n| byte_at(head, 4 + n))),
            2 => {
                self.encodings = u16_at(head, 2);
                ClientMessage::SetEncodings(self.encodings)
            }
            3 => ClientMessage::UpdateRequest {
                incremental: byte_at(head, 1) != 0,
                area: Rect {
                    x: u16_at(head, 2).into(),
                    y: u16_at(head, 4).into(),
                    width: u16_at(head, 6).into(),
                    height: u16_at(head, 8).into(),
                },
            },
            4 => ClientMessage::Key { down: byte_at(head, 1) != 0, keysym: u32_at(head, 4) },
            5 => ClientMessage::Pointer {
                buttons: byte_at(head, 1),
                x: u16_at(head, 2),
                y: u16_at(head, 4),
            },
            6 => {
                self.skip = u32_at(head, 4).into();
                ClientMessage::CutText
            }
            251 => {
                let screens = byte_at(head, 6);
                self.skip = 16 * u64::from(screens);
                let (width, height) = (u16_at(head, 2), u16_at(head, 4));
                ClientMessage::SetDesktopSize { width, height, screens }
            }
            _ => ClientMessage::ExtendedKey {
                down: u16_at(head, 2) != 0,
                keysym: u32_at(head, 4),
                scancode: u32_at(head, 8),
            },
        };
        self.head.clear();
        Ok(Some(message))
    }
}

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([byte_at(bytes, at), byte_at(bytes, at + 1)])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

/// The version of the protocol (RFC 6143, 7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V3_3,
    V3_7,
    V3_8,
}

/// The server's version.
pub(super) const VERSION: &[u8; 12] = b"RFB 003.008\n";

impl Version {
    /// The version that a client names; none if it is no client of RFB. Versions between the three are 3.3
    /// (RFC 6143, 7.1.1), later ones are 3.8.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.strip_prefix(b"RFB ")?.strip_suffix(b"\n")?;
        let (major, minor) = std::str::from_utf8(numbers).ok()?.split_once('.')?;
        let number = |text: &str| {
            (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<u16>().ok())
                .flatten()
        };
        match (number(major)?, number(minor)?) {
            (..=2, _) => None,
            (3, 7) => Some(Self::V3_7),
            (3, ..=6) => Some(Self::V3_3),
            _ => Some(Self::V3_8),
        }
    }
}

/// A text with its length.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
    out.extend(text.as_bytes());
}

/// The begin of a FramebufferUpdate with this many rectangles (RFC 6143, 7.6.1).
pub(super) fn put_update(out: &mut Vec<u8>, rectangles: u16) {
    out.extend([0, 0]);
    out.extend(rectangles.to_be_bytes());
}

/// The begin of a rectangle.
pub(super) fn put_rectangle(out: &mut Vec<u8>, rect: Rect, encoding: i32) {
    for side in [rect.x, rect.y, rect.width, rect.height] {
        out.extend(u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend(encoding.to_be_bytes());
}

/// A rectangle that says the size, with one screen (rfbproto, ExtendedDesktopSize).
pub(super) fn put_extended_size(
    out: &mut Vec<u8>,
    reason: SizeReason,
    status: SizeStatus,
    (width, height): (u32, u32),
) {
    let rect = Rect { x: reason as u32, y: status as u32, width, height };
    put_rectangle(out, rect, encoding::EXTENDED_DESKTOP_SIZE);
    out.extend([1, 0, 0, 0]);
    // The screen: id, place, size, flags.
    out.extend([0; 8]);
    for side in [width, height] {
        out.extend(u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend([0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All messages of `bytes`, given `step` bytes at a time.
    fn decoded(bytes: &[u8], step: usize) -> Result<Vec<ClientMessage>, WireError> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for mut part in bytes.chunks(step) {
            while let Some(message) = decoder.next(&mut part)? {
                messages.push(message);
            }
            assert!(part.is_empty());
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_out_as_they_went_in_byte_by_byte_too() {
        let mut bytes = vec![0, 9, 9, 9];
        bytes.extend(1..=16);
        bytes.extend([2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x11]);
        bytes.extend([3, 1, 0, 1, 0, 2, 0, 3, 1, 0]);
        bytes.extend([4, 1, 0, 0, 0, 0, 0xff, 0x0d]);
        bytes.extend([5, 5, 1, 0, 2, 0]);
        bytes.extend([6, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c']);
        bytes.extend([251, 0, 2, 0, 1, 0, 1, 0]);
        bytes.extend([7; 16]);
        bytes.extend([255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e]);
        bytes.extend([2, 0, 0, 0]);
        bytes.extend([5, 0, 0, 0, 0, 0]);
        let wanted = vec![
            ClientMessage::SetPixelFormat([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
            ClientMessage::SetEncodings(2),
            ClientMessage::Encoding(16),
            ClientMessage::Encoding(-239),
            ClientMessage::UpdateRequest {
                incremental: true,
                area: Rect { x: 1, y: 2, width: 3, height: 256 },
            },
            ClientMessage::Key { down: true, keysym: 0xff0d },
            ClientMessage::Pointer { buttons: 5, x: 256, y: 512 },
            ClientMessage::CutText,
            ClientMessage::SetDesktopSize { width: 512, height: 256, screens: 1 },
            ClientMessage::ExtendedKey { down: true, keysym: 0x61, scancode: 0x1e },
            ClientMessage::SetEncodings(0),
            ClientMessage::Pointer { buttons: 0, x: 0, y: 0 },
        ];
        for step in [1, 2, 3, 7, 1000] {
            assert_eq!(decoded(&bytes, step).unwrap(), wanted, "{step}");
        }
    }

    #[test]
    fn a_clipboard_of_4_gib_is_skipped_and_not_kept() {
        let mut decoder = Decoder::default();
        let mut head: &[u8] = &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decoder.next(&mut head).unwrap(), Some(ClientMessage::CutText));
        let block = vec![4; 1 << 20];
        for _ in 0..4095 {
            assert_eq!(decoder.next(&mut &block[..]).unwrap(), None);
        }
        let mut last = vec![4; (1 << 20) - 1];
        last.extend([5, 0, 0, 1, 0, 2]);
        let point = ClientMessage::Pointer { buttons: 0, x: 1, y: 2 };
        assert_eq!(decoder.next(&mut &last[..]).unwrap(), Some(point));
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        for kind in [1, 7, 150, 248, 250, 252, 253] {
            assert_eq!(decoded(&[kind], 1), Err(WireError::Message(kind)));
        }
        assert_eq!(decoded(&[255, 1], 1), Err(WireError::QemuMessage(1)));
    }

    #[test]
    fn versions_are_those_of_the_rfc() {
        let parse = |text: &str| Version::parse(text.as_bytes());
        assert_eq!(parse("RFB 003.003\n"), Some(Version::V3_3));
        assert_eq!(parse("RFB 003.005\n"), Some(Version::V3_3));
        assert_eq!(parse("RFB 003.007\n"), Some(Version::V3_7));
        assert_eq!(parse("RFB 003.008\n"), Some(Version::V3_8));
        assert_eq!(parse("RFB 003.889\n"), Some(Version::V3_8));
        assert_eq!(parse("RFB 004.001\n"), Some(Version::V3_8));
        for text in
            ["RFB 002.008\n", "GET / HTTP/1", "RFB 003,008\n", "RFB 003.0080", "RFB +03.008\n", ""]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
