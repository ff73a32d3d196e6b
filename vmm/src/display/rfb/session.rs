//! One client, from the handshake to its end: bytes in, bytes out. Nothing here knows a socket, a thread or a clock.
//!
//! What a client sends sets flags; it never makes the output longer. So a client that asks without reading costs a bounded
//! amount of memory, and a thousand requests for updates are one. What it gets, and when, is in `session/updates.rs`.

mod updates;

use cafevm_devices::display::{Cursor, Damage, Rect, SIDE_MAX, Screen, Viewer};

use super::encode::{Encoder, Encoding};
use super::pixel::{FormatError, PixelFormat};
use super::wire::{
    ClientMessage, Decoder, Head, SizeStatus, VERSION, Version, WireError, encoding, put_text,
};

/// No further rectangle is encoded while as many bytes wait to be sent.
pub const OUTPUT_ENOUGH: usize = 64 << 10;
/// The name of the desktop.
const NAME: &str = "cafevm";
/// The security type "None" (RFC 6143, 7.2.1).
const NO_SECURITY: u8 = 1;

/// What a client does to the guest.
pub trait Guest {
    /// A key goes down or up. `scancode` is that of a PC's keyboard, if the client sends one.
    fn key(&mut self, down: bool, keysym: u32, scancode: Option<u32>);
    /// The pointer is at a place of a picture of this size; `buttons` has a bit for each that is held: left, middle,
    /// right, and the four directions of the wheel: up, down, left, right.
    fn pointer(&mut self, at: (u16, u16), size: (u32, u32), buttons: u8);
    /// The client wants another size of the picture. The guest may follow, or not.
    fn resize(&mut self, width: u32, height: u32);
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The client does not speak RFB.
    #[error("the client does not speak RFB 3: it begins with {0:?}")]
    NotRfb(String),
    /// A type of security that was not offered.
    #[error("the client asks for security type {0}; only 1, None, is offered")]
    Security(u8),
    /// An unknown message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A format of pixels that is not supported.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A bug.
    #[error("zlib fails: {0}")]
    Zlib(String),
}

/// What the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Version,
    Security(Version),
    ClientInit,
    Running,
    /// The rest of the output is sent, then the connection ends.
    Over,
}

/// The extensions that a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Abilities {
    /// The preferred encoding of pixels.
    encoding: Option<Encoding>,
    cursor: bool,
    desktop_size: bool,
    extended_size: bool,
    extended_key: bool,
}

/// What is done and sent without pixels, and without a request.
#[derive(Debug, Clone, Copy, Default)]
struct Announcements {
    extended_key: bool,
    /// The size is sent in any case.
    size: bool,
    /// The last SetDesktopSize: a size that the guest can have, or not.
    resize: Option<Result<(u32, u32), SizeStatus>>,
}

impl Announcements {
    const fn is_some(self) -> bool {
        self.extended_key || self.size || self.resize.is_some()
    }
}

/// An update that has begun.
struct Update {
    /// The rectangles that are left.
    rest: Box<dyn Iterator<Item = Rect> + Send>,
    /// The cursor that is drawn into all of them.
    cursor: Cursor,
}

/// A client.
pub struct Session<G> {
    guest: G,
    screen: Screen,
    viewer: Viewer,
    phase: Phase,
    /// The reason for which the client is refused.
    refusal: Option<String>,
    head: Head,
    decoder: Decoder,
    output: Vec<u8>,
    /// The bytes of `output` that are sent.
    sent: usize,

    able: Abilities,
    /// The abilities of a SetEncodings that is not complete, and the number of encodings that follow.
    incoming: (Abilities, u16),
    announce: Announcements,
    format: PixelFormat,
    /// The format from the next update on.
    next_format: Option<PixelFormat>,
    encoder: Encoder,

    /// The size of the picture, as the client knows it.
    size: (u32, u32),
    /// The client waits for an update.
    wanted: bool,
    /// What the client wants again, whether it changed or not.
    refresh: Rect,
    /// What changed that is not damage of the viewer any more.
    changed: Damage,
    /// The cursor that is drawn into the client's picture.
    drawn: Cursor,
    update: Option<Update>,
}

impl<G: Guest> Session<G> {
    /// A client that has connected. `viewer` is one of `screen`. With a `refusal` the client gets it as the reason
    /// for which the connection ends.
    pub fn new(guest: G, screen: &Screen, viewer: Viewer, refusal: Option<String>) -> Self {
        Self {
            guest,
            screen: screen.clone(),
            viewer,
            phase: Phase::Version,
            refusal,
            head: Head::default(),
            decoder: Decoder::default(),
            output: VERSION.to_vec(),
            sent: 0,
            able: Abilities::default(),
            incoming: Default::default(),
            announce: Announcements::default(),
            format: PixelFormat::native(),
            next_format: None,
            encoder: Encoder::new(),
            size: (0, 0),
            wanted: false,
            refresh: Rect::default(),
            changed: Damage::default(),
            drawn: Cursor::default(),
            update: None,
        }
    }

    /// Whether the handshake is done.
    pub const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether the connection ends when the output is sent.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether an update has begun.
    pub const fn is_updating(&self) -> bool {
        self.update.is_some()
    }

    /// Whether [`Session::prepare`] would begin an update, as far as is known without looking at the picture.
    pub fn is_due(&self) -> bool {
        let changed =
            || !self.changed.is_none() || !self.refresh.is_empty() || self.viewer.has_damage();
        self.announce.is_some() || self.wanted && changed()
    }

    /// The bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// The first `count` bytes of the output are sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
    }

    /// Takes bytes from the client.
    ///
    /// # Errors
    ///
    /// Why the connection ends, when the output is sent.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let received = self.take(bytes);
        if received.is_err() {
            self.phase = Phase::Over;
            self.update = None;
        }
        received
    }

    fn take(&mut self, mut input: &[u8]) -> Result<(), SessionError> {
        loop {
            match self.phase {
                Phase::Version => {
                    let Some(bytes) = self.head.fill(&mut input, VERSION.len()) else { break };
                    let version = Version::parse(bytes).ok_or_else(|| {
                        SessionError::NotRfb(String::from_utf8_lossy(bytes).into_owned())
                    })?;
                    self.offer_security(version);
                }
                Phase::Security(version) => {
                    let Some(&[kind]) = self.head.fill(&mut input, 1) else { break };
                    if kind != NO_SECURITY {
                        self.output.extend(1_u32.to_be_bytes());
                        if version == Version::V3_8 {
                            put_text(&mut self.output, "this server has no security but None");
                        }
                        return Err(SessionError::Security(kind));
                    }
                    if version == Version::V3_8 {
                        self.output.extend(0_u32.to_be_bytes());
                    }
                    self.phase = Phase::ClientInit;
                }
                Phase::ClientInit => {
                    // The flag asks to share the desktop, or not. It is always shared.
                    if self.head.fill(&mut input, 1).is_none() {
                        break;
                    }
                    self.introduce();
                }
                Phase::Running => match self.decoder.next(&mut input)? {
                    Some(message) => self.handle(&message)?,
                    None => break,
                },
                Phase::Over => break,
            }
            self.head.clear();
        }
        Ok(())
    }

    fn offer_security(&mut self, version: Version) {
        let old = version == Version::V3_3;
        if let Some(why) = &self.refusal {
            if old {
                self.output.extend(0_u32.to_be_bytes());
            } else {
                self.output.push(0);
            }
            put_text(&mut self.output, why);
            self.phase = Phase::Over;
        } else if old {
            self.output.extend(u32::from(NO_SECURITY).to_be_bytes());
            self.phase = Phase::ClientInit;
        } else {
            self.output.extend([1, NO_SECURITY]);
            self.phase = Phase::Security(version);
        }
    }

    /// Sends ServerInit (RFC 6143, 7.3.2).
    fn introduce(&mut self) {
        self.size = self.screen_size();
        for side in [self.size.0, self.size.1] {
            self.output.extend(u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
        }
        self.output.extend(PixelFormat::NATIVE);
        put_text(&mut self.output, NAME);
        self.phase = Phase::Running;
    }

    /// The size of the picture. RFB has no empty one.
    fn screen_size(&self) -> (u32, u32) {
        self.screen.look(|picture, _| (picture.width().max(1), picture.height().max(1)))
    }

    fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.size.0, height: self.size.1 }
    }

    fn handle(&mut self, message: &ClientMessage) -> Result<(), SessionError> {
        match *message {
            ClientMessage::SetPixelFormat(ref bytes) => {
                self.next_format = Some(PixelFormat::parse(bytes)?);
            }
            ClientMessage::SetEncodings(count) => {
                self.incoming = (Abilities::default(), count);
                self.take_abilities();
            }
            ClientMessage::Encoding(encoding) => {
                let (incoming, left) = &mut self.incoming;
                incoming.add(encoding);
                *left = left.saturating_sub(1);
                self.take_abilities();
            }
            ClientMessage::UpdateRequest { incremental, area } => {
                self.wanted = true;
                if !incremental {
                    let area = area.within(self.size.0, self.size.1);
                    self.refresh = self.refresh.around(area);
                    self.announce.size |= self.able.extended_size;
                }
            }
            ClientMessage::Key { down, keysym } => self.guest.key(down, keysym, None),
            ClientMessage::ExtendedKey { down, keysym, scancode } => {
                self.guest.key(down, keysym, Some(scancode));
            }
            ClientMessage::Pointer { buttons, x, y } => {
                self.guest.pointer((x, y), self.size, buttons);
            }
            ClientMessage::CutText => {}
            ClientMessage::SetDesktopSize { width, height, screens } => {
                let sides = [u32::from(width), u32::from(height)];
                let fits = screens > 0 && sides.iter().all(|side| (1..=SIDE_MAX).contains(side));
                let [width, height] = sides;
                let wish = if fits { Ok((width, height)) } else { Err(SizeStatus::InvalidLayout) };
                self.announce.resize = Some(wish);
            }
        }
        Ok(())
    }

    /// Takes the abilities of a SetEncodings that is complete.
    fn take_abilities(&mut self) {
        let (able, left) = self.incoming;
        if left > 0 {
            return;
        }
        self.announce.size |= able.extended_size && !self.able.extended_size;
        self.announce.extended_key |= able.extended_key && !self.able.extended_key;
        // From now on the cursor is drawn by the other side.
        self.changed.cursor_image |= able.cursor != self.able.cursor;
        self.able = able;
    }
}

impl Abilities {
    fn add(&mut self, known: i32) {
        let preferred = match known {
            encoding::RAW => Some(Encoding::Raw),
            encoding::ZRLE => Some(Encoding::Zrle),
            _ => None,
        };
        self.encoding = self.encoding.or(preferred);
        match known {
            encoding::CURSOR => self.cursor = true,
            encoding::DESKTOP_SIZE => self.desktop_size = true,
            encoding::EXTENDED_DESKTOP_SIZE => self.extended_size = true,
            encoding::QEMU_EXTENDED_KEY => self.extended_key = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
