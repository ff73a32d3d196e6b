//! Screenshots: the picture as a PNG file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use cafevm_devices::display::{Cursor, Picture, Screen};
use serde_json::json;

use super::rfb::encode::cursor;
use crate::error::HostError;
use crate::runtime::messages::{Answer, Ticket};
use crate::threads::mailbox::Outbox;
use crate::threads::roll::Roll;

/// The first bytes of a PNG file.
const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// The most screenshots that are not written yet.
const WAITING_MAX: usize = 8;
/// The thread's name in messages.
const NAME: &str = "the thread that writes screenshots";

/// A screenshot that a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) ticket: Ticket,
    pub(crate) to: PathBuf,
    /// Whether the cursor is drawn into the picture.
    pub(crate) cursor: bool,
}

/// Writes screenshots one after the other, on a thread that the first one starts.
pub(crate) struct Screenshots {
    screen: Screen,
    answers: Outbox<(Ticket, Answer)>,
    roll: Arc<Roll>,
    thread: Option<Sender<Shot>>,
    waiting: Arc<AtomicUsize>,
}

impl Screenshots {
    /// Of this screen. Answers go to `answers`; shutdown waits for the thread as for all in `roll`.
    pub(crate) fn new(screen: Screen, answers: Outbox<(Ticket, Answer)>, roll: Arc<Roll>) -> Self {
        Self { screen, answers, roll, thread: None, waiting: Arc::default() }
    }

    /// Takes a screenshot, without waiting for it.
    ///
    /// # Errors
    ///
    /// If too many are not written yet, or the host cannot start a thread.
    pub(crate) fn take(&mut self, shot: Shot) -> Result<(), String> {
        if self.waiting.load(Ordering::Relaxed) >= WAITING_MAX {
            return Err(format!("{WAITING_MAX} screenshots are not written yet; try again later"));
        }
        let thread = match &self.thread {
            Some(thread) => thread,
            None => self.thread.insert(self.start().map_err(|error| error.to_string())?),
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        thread.send(shot).map_err(|_| format!("{NAME} has ended"))
    }

    /// Starts the thread, which ends when the sender is dropped.
    fn start(&self) -> Result<Sender<Shot>, HostError> {
        let (sender, shots) = mpsc::channel::<Shot>();
        let (screen, answers, waiting) =
            (self.screen.clone(), self.answers.clone(), self.waiting.clone());
        let present = self.roll.enter_visitor(NAME.to_owned());
        let run = move || {
            // Dropped last.
            let _present = present;
            for Shot { ticket, to, cursor } in shots {
                let answer = write(&screen, &to, cursor);
                waiting.fetch_sub(1, Ordering::Relaxed);
                answers.send((ticket, answer));
            }
        };
        let thread = std::thread::Builder::new().name("screenshots".to_owned()).spawn(run);
        thread.map_err(HostError::os("start a thread for screenshots"))?;
        Ok(sender)
    }
}

/// Writes the picture to `to`: as a whole or not at all.
///
/// # Errors
///
/// Why it is not written.
pub(crate) fn write(screen: &Screen, to: &Path, with_cursor: bool) -> Answer {
    let failed = |error: io::Error| format!("{}: {error}", to.display());
    check(to).map_err(failed)?;
    let (picture, cursor) = screen.look(|picture, cursor| (picture.clone(), cursor.clone()));
    let (width, height) = (picture.width(), picture.height());
    if width == 0 || height == 0 {
        return Err("the screen has no size yet".to_owned());
    }
    let cursor = if with_cursor { cursor } else { Cursor::default() };
    write_file(to, &picture, &cursor).map_err(failed)?;
    Ok(json!({ "to": to, "width": width, "height": height }))
}

/// Checks that what is at `to`, if anything, may be replaced: a screenshot replaces no image of a disk.
///
/// # Errors
///
/// Why it may not.
pub(crate) fn check(to: &Path) -> io::Result<()> {
    let there = match fs::metadata(to) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let refuse = |why| Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    if !there.is_file() {
        return refuse("is no regular file; give the path of a new file");
    }
    let mut begin = Vec::new();
    File::open(to)?.take(8).read_to_end(&mut begin)?;
    if begin.is_empty() || begin == SIGNATURE {
        return Ok(());
    }
    refuse("a file that is no PNG is there; remove it, or give another path")
}

fn write_file(to: &Path, picture: &Picture, cursor: &Cursor) -> io::Result<()> {
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".cafevm-screenshot-")
        .suffix(".tmp")
        // As any other new file: less the umask.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    let mut buffer = BufWriter::new(file.as_file_mut());
    encode(&mut buffer, picture, cursor)?;
    buffer.flush()?;
    drop(buffer);
    file.persist(to)?;
    Ok(())
}

/// Writes a PNG with 8 bits of red, green and blue.
///
/// # Errors
///
/// If the writer fails.
pub(crate) fn encode(out: impl Write, picture: &Picture, cursor: &Cursor) -> io::Result<()> {
    let whole = picture.whole();
    let mut encoder = png::Encoder::new(out, whole.width, whole.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Text on one colour has a tenth of the bytes that the fast way gives it.
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    let mut rows = writer.stream_writer()?;
    let (mut pixels, mut bytes) = (Vec::new(), Vec::new());
    for y in 0..whole.height {
        pixels.clear();
        pixels.extend_from_slice(picture.row(y, 0, whole.width));
        let row = cafevm_devices::display::Rect { y, height: 1, ..whole };
        cursor::draw(cursor, row, &mut pixels);
        bytes.clear();
        bytes.extend(pixels.iter().flat_map(|pixel| {
            let [_, red, green, blue] = pixel.to_be_bytes();
            [red, green, blue]
        }));
        rows.write_all(&bytes)?;
    }
    rows.finish()?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cafevm_devices::display::{CursorImage, Rect};
    use tempfile::TempDir;

    use super::*;
    use crate::threads::mailbox::{Inbox, mailbox};

    struct Scene {
        dir: TempDir,
        screen: Screen,
        shots: Option<Screenshots>,
        answers: Inbox<(Ticket, Answer)>,
        roll: Arc<Roll>,
    }

    impl Scene {
        fn new(width: u32, height: u32) -> Self {
            let screen = Screen::default();
            screen.set_size(width, height);
            screen.draw(Rect { x: 0, y: 0, width, height }, |y, row| {
                for (pixel, x) in row.iter_mut().zip(0..) {
                    *pixel = ((x * 3) & 0xff) << 16 | ((y * 5) & 0xff) << 8 | (x ^ y) & 0xff;
                }
            });
            let (to, answers) = mailbox().unwrap();
            let roll = Arc::<Roll>::default();
            let shots = Some(Screenshots::new(screen.clone(), to, roll.clone()));
            Self { dir: tempfile::tempdir().unwrap(), screen, shots, answers, roll }
        }

        fn take(&mut self, name: &str, cursor: bool) -> Answer {
            let to = self.dir.path().join(name);
            self.shots.as_mut().unwrap().take(Shot { ticket: Ticket(1), to, cursor })?;
            loop {
                if let Some((_, answer)) = self.answers.take().next() {
                    return answer;
                }
                std::thread::yield_now();
            }
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn read(&self, name: &str) -> (u32, u32, Vec<u32>) {
            let file = io::BufReader::new(File::open(self.dir.path().join(name)).unwrap());
            let mut reader = png::Decoder::new(file).read_info().unwrap();
            let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut bytes).unwrap();
            assert_eq!(
                (info.color_type, info.bit_depth),
                (png::ColorType::Rgb, png::BitDepth::Eight)
            );
            let pixel = |rgb: &[u8]| u32::from_be_bytes([0, rgb[0], rgb[1], rgb[2]]);
            (info.width, info.height, bytes.chunks(3).map(pixel).collect())
        }
    }

    #[test]
    fn the_file_has_every_pixel() {
        for (width, height) in [(1, 1), (640, 480), (3, 5)] {
            let mut scene = Scene::new(width, height);
            let answer = scene.take("x.png", false).unwrap();
            assert_eq!((&answer["width"], &answer["height"]), (&json!(width), &json!(height)));
            let pixels = scene.screen.look(|picture, _| picture.pixels().to_vec());
            assert_eq!(scene.read("x.png"), (width, height, pixels));
            // An older screenshot is replaced.
            scene.screen.set_size(2, 1);
            scene.take("x.png", false).unwrap();
            assert_eq!(scene.read("x.png"), (2, 1, vec![0, 0]));
            assert_eq!(scene.names(), ["x.png"]);
            // Who may read other new files may read it.
            let other = scene.dir.path().join("other");
            fs::write(&other, "").unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&scene.dir.path().join("x.png")), mode(&other));
        }
    }

    #[test]
    fn the_cursor_is_drawn_if_it_is_wanted() {
        let mut scene = Scene::new(70, 70);
        scene.screen.set_size(70, 70);
        let pixels = vec![0xff00_00ff; 64 * 64];
        // It points elsewhere than where it is.
        scene.screen.set_cursor(Some(Arc::new(CursorImage { pixels, hot_x: 5, hot_y: 7 })));
        scene.screen.move_cursor(69, 68);
        scene.take("with.png", true).unwrap();
        scene.take("without.png", false).unwrap();
        let (_, _, with) = scene.read("with.png");
        let drawn: Vec<_> = with.iter().enumerate().filter(|(_, p)| **p != 0).collect();
        assert_eq!(drawn, [(68 * 70 + 69, &0xff), (69 * 70 + 69, &0xff)]);
        assert!(scene.read("without.png").2.iter().all(|pixel| *pixel == 0));
    }

    #[test]
    fn nothing_else_is_replaced_and_nothing_stays_behind() {
        let mut scene = Scene::new(4, 4);
        let path = scene.dir.path().join("d.img");
        fs::write(&path, "precious").unwrap();
        fs::write(scene.dir.path().join("empty"), "").unwrap();
        fs::create_dir(scene.dir.path().join("dir")).unwrap();
        for (name, says) in [
            ("d.img", "no PNG"),
            ("dir", "no regular file"),
            ("none/x.png", "No such file"),
            ("d.img/x.png", "Not a directory"),
        ] {
            let error = scene.take(name, false).unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
        assert!(scene.take("empty", false).is_ok());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(scene.names(), ["d.img", "dir", "empty"]);
        scene.screen.set_size(0, 0);
        assert!(scene.take("x.png", false).unwrap_err().contains("no size"));
    }

    #[test]
    fn the_thread_starts_late_and_ends_with_its_owner() {
        let mut scene = Scene::new(4, 4);
        assert!(scene.roll.wait(Duration::ZERO).is_empty());
        scene.take("x.png", false).unwrap();
        assert_eq!(scene.roll.wait(Duration::ZERO), [NAME]);
        scene.shots = None;
        assert!(scene.roll.wait(Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn the_number_that_waits_is_bounded() {
        let mut scene = Scene::new(4, 4);
        scene.shots.as_ref().unwrap().waiting.store(WAITING_MAX, Ordering::Relaxed);
        assert!(scene.take("x.png", false).unwrap_err().contains("8 screenshots"));
    }
}
