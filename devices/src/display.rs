//! The picture between a GPU that draws and the viewers that show it.
//!
//! A [`Screen`] belongs to the GPU: it sets the size, draws rectangles and moves the cursor. Any number of [`Viewer`]s
//! read it. Each has its own damage: the part of the picture that changed since it last looked. Damage never grows
//! beyond a few rectangles, so a slow viewer costs no memory, and never delays the GPU.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::irq::Wake;

/// The largest width and height of a picture.
pub const SIDE_MAX: u32 = 8192;
/// The most damaged rectangles that are kept apart; with more they become one.
const DAMAGE_MAX: usize = 16;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rect {
    /// The left edge.
    pub x: u32,
    /// The upper edge.
    pub y: u32,
    /// The width; nothing is in a rectangle of width 0.
    pub width: u32,
    /// The height; nothing is in a rectangle of height 0.
    pub height: u32,
}

impl Rect {
    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The part of it that is within `width` times `height` pixels.
    #[must_use]
    pub fn within(self, width: u32, height: u32) -> Self {
        let (x, y) = (self.x.min(width), self.y.min(height));
        Self { x, y, width: self.width.min(width - x), height: self.height.min(height - y) }
    }

    /// The smallest rectangle that contains both.
    #[must_use]
    pub fn around(self, other: Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return if self.is_empty() { other } else { self };
        }
        let end = |start: u32, len: u32| start.saturating_add(len);
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = end(self.x, self.width).max(end(other.x, other.width));
        let bottom = end(self.y, self.height).max(end(other.y, other.height));
        Self { x, y, width: right - x, height: bottom - y }
    }
}

/// A picture: `height` rows of `width` pixels, each 0x00RRGGBB.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u32>,
}

impl Picture {
    /// A black picture. Each side has at most [`SIDE_MAX`] pixels.
    pub fn black(width: u32, height: u32) -> Self {
        let (width, height) = (width.min(SIDE_MAX), height.min(SIDE_MAX));
        let count = usize::try_from(u64::from(width) * u64::from(height)).unwrap_or(0);
        Self { width, height, pixels: vec![0; count] }
    }

    /// The width in pixels.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// The height in pixels.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// All pixels, row by row from the top.
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// The pixels of a row from `x`, at most `width` of them.
    pub fn row(&self, y: u32, x: u32, width: u32) -> &[u32] {
        let (start, end) = self.span(y, x, width);
        self.pixels.get(start..end).unwrap_or_default()
    }

    fn row_mut(&mut self, y: u32, x: u32, width: u32) -> &mut [u32] {
        let (start, end) = self.span(y, x, width);
        self.pixels.get_mut(start..end).unwrap_or_default()
    }

    /// The indices of the pixels of a part of a row.
    fn span(&self, y: u32, x: u32, width: u32) -> (usize, usize) {
        let Rect { x, y, width, height } =
            Rect { x, y, width, height: 1 }.within(self.width, self.height);
        let start = y as usize * self.width as usize + x as usize;
        (start, if height == 0 { start } else { start + width as usize })
    }
}

/// A pointer's picture: [`CursorImage::SIDE`] rows of as many pixels, each 0xAARRGGBB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorImage {
    /// The pixels, row by row from the top.
    pub pixels: Vec<u32>,
    /// The pixel that points, from the left.
    pub hot_x: u32,
    /// The pixel that points, from the top.
    pub hot_y: u32,
}

impl CursorImage {
    /// The width and height of every cursor (virtio 1.4, 5.7.6.10).
    pub const SIDE: u32 = 64;
}

/// The pointer, as the guest shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Its picture; none while the guest hides it.
    pub image: Option<Arc<CursorImage>>,
    /// The left edge of its picture; may be outside of the screen.
    pub x: i32,
    /// The upper edge of its picture, as above.
    pub y: i32,
}

/// What has changed since a viewer last looked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Damage {
    /// Whether the size changed; the whole picture is then new.
    pub size: bool,
    /// The parts of the picture that changed.
    pub rects: Vec<Rect>,
    /// Whether the picture of the cursor changed, or it was shown or hidden.
    pub cursor_image: bool,
    /// Whether the cursor moved.
    pub cursor_place: bool,
}

impl Damage {
    /// Whether nothing changed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another viewer's damage, or what was taken earlier.
    pub fn merge(&mut self, other: Self) {
        let Self { size, rects, cursor_image, cursor_place } = other;
        self.size |= size;
        self.cursor_image |= cursor_image;
        self.cursor_place |= cursor_place;
        rects.into_iter().for_each(|rect| self.add(rect));
    }

    fn add(&mut self, rect: Rect) {
        if rect.is_empty() || self.rects.contains(&rect) {
            return;
        }
        self.rects.push(rect);
        if self.rects.len() > DAMAGE_MAX {
            let all = self.rects.drain(..).fold(Rect::default(), Rect::around);
            self.rects.push(all);
        }
    }
}

/// What a guest shows. Clones share it.
#[derive(Clone, Default)]
pub struct Screen(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    picture: Picture,
    cursor: Cursor,
    viewers: Vec<Weak<Seat>>,
}

/// A viewer's place before the screen.
struct Seat {
    damage: Mutex<Damage>,
    wake: Option<Arc<dyn Wake>>,
}

impl Seat {
    fn damage(&self) -> MutexGuard<'_, Damage> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// Adds to the damage of each viewer, and wakes those that had none.
    fn damage(&mut self, add: impl Fn(&mut Damage)) {
        self.viewers.retain(|viewer| {
            let Some(viewer) = viewer.upgrade() else { return false };
            let was_none = {
                let mut damage = viewer.damage();
                let was_none = damage.is_none();
                add(&mut damage);
                was_none
            };
            if let (true, Some(wake)) = (was_none, &viewer.wake) {
                wake.wake();
            }
            true
        });
    }
}

impl Screen {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the size, which makes the picture black. Each side has at most [`SIDE_MAX`] pixels. The same size again
    /// only makes it black.
    pub fn set_size(&self, width: u32, height: u32) {
        let mut content = self.content();
        let old = (content.picture.width, content.picture.height);
        content.picture = Picture::black(width, height);
        let whole = content.picture.whole();
        let size = old != (whole.width, whole.height);
        content.damage(|damage| {
            damage.size |= size;
            damage.rects = vec![whole];
        });
    }

    /// Draws the part of `rect` that is on the screen. `row` gets the number of each row within `rect`, and the pixels
    /// from the left edge of `rect`, to be filled.
    pub fn draw(&self, rect: Rect, mut row: impl FnMut(u32, &mut [u32])) {
        let mut content = self.content();
        let rect = rect.within(content.picture.width, content.picture.height);
        if rect.is_empty() {
            return;
        }
        for n in 0..rect.height {
            row(n, content.picture.row_mut(rect.y + n, rect.x, rect.width));
        }
        content.damage(|damage| damage.add(rect));
    }

    /// Changes the picture of the cursor; none hides it.
    pub fn set_cursor(&self, image: Option<Arc<CursorImage>>) {
        let mut content = self.content();
        content.cursor.image = image;
        content.damage(|damage| damage.cursor_image = true);
    }

    /// Moves the cursor: its picture has its upper left corner there.
    pub fn move_cursor(&self, x: i32, y: i32) {
        let mut content = self.content();
        (content.cursor.x, content.cursor.y) = (x, y);
        content.damage(|damage| damage.cursor_place = true);
    }

    /// Calls `look` with the picture and the cursor. The GPU waits in the meantime: copy, and do not wait.
    pub fn look<R>(&self, look: impl FnOnce(&Picture, &Cursor) -> R) -> R {
        let content = self.content();
        look(&content.picture, &content.cursor)
    }

    /// A viewer, for which everything is new. `wake` is woken when there is damage after there was none.
    pub fn viewer(&self, wake: Option<Arc<dyn Wake>>) -> Viewer {
        let mut content = self.content();
        let damage = Damage {
            size: true,
            rects: vec![content.picture.whole()],
            cursor_image: true,
            cursor_place: true,
        };
        let seat = Arc::new(Seat { damage: Mutex::new(damage), wake });
        content.viewers.push(Arc::downgrade(&seat));
        drop(content);
        Viewer { screen: self.clone(), seat }
    }
}

impl Picture {
    /// All of it.
    pub const fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.look(|picture, _| (picture.width, picture.height));
        write!(f, "Screen({width}x{height})")
    }
}

/// A viewer of a [`Screen`].
pub struct Viewer {
    screen: Screen,
    seat: Arc<Seat>,
}

impl Viewer {
    /// Calls `look` with what has changed since the last call, the picture and the cursor. The GPU waits in the
    /// meantime: copy, and do not wait.
    pub fn look<R>(&self, look: impl FnOnce(Damage, &Picture, &Cursor) -> R) -> R {
        self.screen.look(|picture, cursor| {
            let mut damage = std::mem::take(&mut *self.seat.damage());
            // Damage from before a change of size may reach beyond the picture.
            for rect in &mut damage.rects {
                *rect = rect.within(picture.width, picture.height);
            }
            damage.rects.retain(|rect| !rect.is_empty());
            look(damage, picture, cursor)
        })
    }

    /// Whether there is damage.
    pub fn has_damage(&self) -> bool {
        !self.seat.damage().is_none()
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").field("screen", &self.screen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn a_viewer_sees_each_change_once() {
        let (screen, bell) = (Screen::default(), Arc::new(Bell::default()));
        screen.set_size(8, 4);
        let viewer = screen.viewer(Some(bell.clone()));
        viewer.look(|damage, _, _| assert!(damage.size && damage.rects == [rect(0, 0, 8, 4)]));
        assert!(!viewer.has_damage());
        // Beyond the right edge.
        screen.draw(rect(6, 1, 5, 2), |n, row| row.fill(n + 1));
        screen.draw(rect(9, 9, 1, 1), |_, _| unreachable!());
        screen.move_cursor(3, 2);
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        viewer.look(|damage, picture, cursor| {
            assert_eq!(damage.rects, [rect(6, 1, 2, 2)]);
            assert!(damage.cursor_place && !damage.cursor_image && !damage.size);
            assert_eq!(picture.row(1, 5, 100), [0, 1, 1]);
            assert_eq!(picture.row(2, 7, 1), [2]);
            assert!(picture.row(4, 0, 1).is_empty());
            assert_eq!((cursor.x, cursor.y), (3, 2));
        });
        viewer.look(|damage, _, _| assert!(damage.is_none()));
        screen.set_cursor(None);
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn damage_is_bounded_and_stays_on_the_screen() {
        let screen = Screen::default();
        screen.set_size(100, 100);
        let viewer = screen.viewer(None);
        viewer.look(|_, _, _| ());
        for n in 0..50 {
            screen.draw(rect(n, n, 1, 1), |_, row| row.fill(1));
        }
        viewer.look(|damage, _, _| {
            assert!(damage.rects.len() <= DAMAGE_MAX);
            let all = damage.rects.into_iter().fold(Rect::default(), Rect::around);
            assert_eq!(all, rect(0, 0, 50, 50));
        });
        screen.set_size(100, 100);
        viewer.look(|damage, picture, _| {
            assert!(!damage.size && damage.rects == [rect(0, 0, 100, 100)]);
            assert!(picture.pixels().iter().all(|pixel| *pixel == 0));
        });
        screen.set_size(SIDE_MAX + 1, 1);
        viewer.look(|damage, picture, _| {
            assert!(damage.size);
            assert_eq!((picture.width(), picture.height()), (SIDE_MAX, 1));
        });
    }
}
