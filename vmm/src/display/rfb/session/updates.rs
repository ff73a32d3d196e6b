//! What a client gets, and when: announcements at once, updates of the picture when it asks for them.
//!
//! The output grows by one rectangle at a time, in [`Session::prepare`], and only while less than [`OUTPUT_ENOUGH`] bytes
//! wait. The pixels of an update are read from the screen rectangle by rectangle. What changes meanwhile is damage of the
//! next update.

use cafevm_devices::display::{Cursor, Damage, Rect};

use super::super::encode::{Scratch, cursor, pieces};
use super::super::pixel::colour_map;
use super::super::wire::{
    SizeReason, SizeStatus, encoding, put_extended_size, put_rectangle, put_update,
};
use super::{Announcements, Guest, OUTPUT_ENOUGH, Session, SessionError, Update};

impl<G: Guest> Session<G> {
    /// Appends the next bit of an update to the output, if one is wanted and there is room. Returns whether it did.
    ///
    /// # Errors
    ///
    /// A bug.
    pub fn prepare(&mut self, scratch: &mut Scratch) -> Result<bool, SessionError> {
        if !self.is_running() || self.output().len() >= OUTPUT_ENOUGH {
            return Ok(false);
        }
        self.output.drain(..self.sent);
        self.sent = 0;
        let Some(update) = &mut self.update else { return Ok(self.begin_update()) };
        match update.rest.next() {
            None => self.update = None,
            Some(rect) => {
                let what = (&self.screen, rect, &update.cursor);
                let encoded = self.encoder.encode(&mut self.output, scratch, &self.format, what);
                encoded.map_err(|error| SessionError::Zlib(error.to_string()))?;
            }
        }
        Ok(true)
    }

    /// Begins an update, if there is something to send.
    fn begin_update(&mut self) -> bool {
        if self.announce() {
            return true;
        }
        if !self.is_due() {
            return false;
        }
        let (damage, cursor) = self.viewer.look(|damage, _, cursor| (damage, cursor.clone()));
        self.changed.merge(damage);
        if self.screen_size() != self.size && (self.able.extended_size || self.able.desktop_size) {
            // It is sent alone. The pixels follow: the client waits for them.
            self.put_size();
            return true;
        }
        if let Some(format) = self.next_format.take() {
            if format.is_mapped() {
                self.output.extend(colour_map());
            }
            self.format = format;
        }
        let Damage { size, mut rects, cursor_image, .. } = std::mem::take(&mut self.changed);
        rects.push(std::mem::take(&mut self.refresh));
        if size {
            // Also what is beyond a picture that became smaller.
            rects.push(self.whole());
        }
        let cursor_is_sent = self.able.cursor && cursor_image;
        let drawn = if self.able.cursor { Cursor::default() } else { cursor.clone() };
        if drawn != self.drawn {
            rects.extend([cursor::covered(&self.drawn), cursor::covered(&drawn)]);
            self.drawn = drawn;
        }
        let rects = self.on_the_clients_picture(rects);
        let count = rects.iter().map(|rect| pieces(*rect).count()).sum::<usize>();
        let count = u16::try_from(count + usize::from(cursor_is_sent)).unwrap_or(u16::MAX);
        if count == 0 {
            return false;
        }
        self.wanted = false;
        put_update(&mut self.output, count);
        if cursor_is_sent {
            cursor::put(&mut self.output, &self.format, cursor.image.as_deref());
        }
        self.encoder.encoding = self.able.encoding.unwrap_or_default();
        let rest = Box::new(rects.into_iter().flat_map(pieces));
        self.update = Some(Update { rest, cursor: self.drawn.clone() });
        true
    }

    /// The parts of rectangles that the client has, each only once if one contains the others.
    fn on_the_clients_picture(&self, rects: Vec<Rect>) -> Vec<Rect> {
        let (width, height) = self.size;
        let mut rects: Vec<_> = rects.into_iter().map(|rect| rect.within(width, height)).collect();
        rects.retain(|rect| !rect.is_empty());
        let all = rects.iter().fold(Rect::default(), |all, rect| all.around(*rect));
        if rects.contains(&all) { vec![all] } else { rects }
    }

    /// Sends what needs no request. Returns whether there was something.
    fn announce(&mut self) -> bool {
        let announcements = std::mem::take(&mut self.announce);
        let Announcements { extended_key, size, resize } = announcements;
        if extended_key {
            put_update(&mut self.output, 1);
            put_rectangle(&mut self.output, Rect::default(), encoding::QEMU_EXTENDED_KEY);
        }
        let status = resize.map(|wish| match wish {
            Ok((width, height)) => {
                self.guest.resize(width, height);
                SizeStatus::Forwarded
            }
            Err(status) => status,
        });
        if let (Some(status), true) = (status, self.able.extended_size) {
            // With a status other than Done, the client keeps the size that it has.
            put_update(&mut self.output, 1);
            put_extended_size(&mut self.output, SizeReason::Client, status, self.size);
        }
        if size {
            self.put_size();
        }
        announcements.is_some()
    }

    /// Sends the size, in an update of its own. A client whose size changes knows no pixel any more.
    fn put_size(&mut self) {
        let size = self.screen_size();
        if size != self.size {
            self.size = size;
            self.refresh = self.whole();
        }
        put_update(&mut self.output, 1);
        if self.able.extended_size {
            put_extended_size(&mut self.output, SizeReason::Server, SizeStatus::Done, size);
        } else {
            let whole = self.whole();
            put_rectangle(&mut self.output, whole, encoding::DESKTOP_SIZE);
        }
    }
}
