//! Disk images: files that hold a pattern, and the comparison with what they must hold afterwards.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Failed, Outcome, ensure};

/// Bytes in a sector, on either kind of disk.
pub const SECTOR: usize = 512;
/// The seed of a guest's only disk.
pub const SEED: u64 = 1;

/// The bytes of these sectors.
pub const fn sectors(sectors: Range<usize>) -> Range<usize> {
    sectors.start * SECTOR..sectors.end * SECTOR
}

/// The bytes of a pattern, from a multiple of 8 on: its 64-bit little-endian word number w is `seed << 48 | w`, so that
/// each byte shows where it belongs. The last word may be cut.
pub fn pattern(seed: u64, range: Range<usize>) -> Vec<u8> {
    let words = (seed << 48..).skip(range.start / 8);
    words.flat_map(u64::to_le_bytes).take(range.len()).collect()
}

/// A directory of one test's own, gone when it is dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one where temporary files go.
    ///
    /// # Errors
    ///
    /// If the host cannot.
    pub fn new() -> io::Result<Self> {
        TempDir::with_prefix("cafevm-test-").map(Self)
    }

    /// Makes one in this directory.
    ///
    /// # Errors
    ///
    /// If the host cannot.
    pub fn within(directory: &Path) -> io::Result<Self> {
        TempDir::with_prefix_in("cafevm-test-", directory).map(Self)
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An image that holds the pattern of [`SEED`], `bytes` long.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn image(&self, name: &str, bytes: usize) -> io::Result<Image> {
        self.seeded(name, SEED, bytes)
    }

    /// An image that holds the [`pattern`] of `seed`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn seeded(&self, name: &str, seed: u64, bytes: usize) -> io::Result<Image> {
        self.holding(name, pattern(seed, 0..bytes))
    }

    /// An image that holds these bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn holding(&self, name: &str, contents: Vec<u8>) -> io::Result<Image> {
        let path = self.path(name);
        fs::write(&path, &contents)?;
        Ok(Image { path, contents })
    }
}

/// An image, and what it held at the start.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    contents: Vec<u8>,
}

impl Image {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails unless it holds, to the byte, what it held at the start with the changes that `change` makes to that.
    ///
    /// # Errors
    ///
    /// If it differs: where, and how.
    pub fn holds(&self, change: impl FnOnce(&mut [u8])) -> Outcome {
        let mut wanted = self.contents.clone();
        change(&mut wanted);
        let seen = fs::read(&self.path)?;
        match difference(&seen, &wanted) {
            None => Ok(()),
            Some(text) => Err(Failed::from(format!("{}: {text}", self.path.display()))),
        }
    }

    /// Fails where anything in it has changed.
    ///
    /// # Errors
    ///
    /// If it differs: where, and how.
    pub fn is_untouched(&self) -> Outcome {
        self.holds(|_| ())
    }

    /// Fails unless these bytes of it are all `byte`. For what a guest is to have done by now; [`Image::holds`] also
    /// looks at the rest.
    ///
    /// # Errors
    ///
    /// If they are not.
    pub fn has(&self, range: Range<usize>, byte: u8) -> Outcome {
        let seen = fs::read(&self.path)?;
        let there = seen.get(range.clone()).is_some_and(|part| part.iter().all(|b| *b == byte));
        ensure!(there, "{}: bytes {range:?} are not all {byte:#x}", self.path.display());
        Ok(())
    }
}

/// Where two images differ, for a person: nothing where they do not.
pub fn difference(seen: &[u8], wanted: &[u8]) -> Option<String> {
    /// Bytes that are shown from the first that differs.
    const SHOWN: usize = 16;
    if seen == wanted {
        return None;
    }
    let differ: Vec<usize> =
        (0..seen.len().min(wanted.len())).filter(|&at| seen.get(at) != wanted.get(at)).collect();
    let mut text = String::new();
    if let Some(&first) = differ.first() {
        let from = |bytes: &[u8]| {
            let part = bytes.iter().skip(first).take(SHOWN);
            part.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
        };
        let last = differ.last().copied().unwrap_or(first);
        text = format!(
            "{} bytes differ, in sectors {} to {}; first byte {} of sector {}: {} where it must be {}",
            differ.len(),
            first / SECTOR,
            last / SECTOR,
            first % SECTOR,
            first / SECTOR,
            from(seen),
            from(wanted)
        );
    }
    if seen.len() != wanted.len() {
        let and = if text.is_empty() { "" } else { "; and " };
        text += &format!("{and}it has {} bytes, not {}", seen.len(), wanted.len());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_says_where_each_byte_belongs() {
        let scratch = Scratch::new().unwrap();
        let image = scratch.seeded("a", 0x5b, 2 * SECTOR + 3).unwrap();
        let bytes = fs::read(image.path()).unwrap();
        assert_eq!(bytes.len(), 2 * SECTOR + 3);
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 0, 0, 0x5b, 0]);
        assert_eq!(bytes[2 * SECTOR..], [0x80, 0, 0]);
        image.is_untouched().unwrap();
    }

    #[test]
    fn a_difference_names_its_place_and_extent() {
        let wanted = vec![0; 4 * SECTOR];
        let mut seen = wanted.clone();
        assert_eq!(difference(&seen, &wanted), None);
        seen[SECTOR + 5] = 0xff;
        seen[3 * SECTOR] = 1;
        let text = difference(&seen, &wanted).unwrap();
        assert!(
            text.starts_with("2 bytes differ, in sectors 1 to 3; first byte 5 of sector 1: ff 00 "),
            "{text}"
        );
        seen.truncate(SECTOR);
        assert_eq!(difference(&seen, &wanted).unwrap(), "it has 512 bytes, not 2048");
        seen.push(9);
        assert!(difference(&seen, &wanted).unwrap().ends_with("; and it has 513 bytes, not 2048"));
    }

    #[test]
    fn an_image_that_changed_is_told_from_one_that_did_not() {
        let scratch = Scratch::new().unwrap();
        let image = scratch.image("a", 3 * SECTOR).unwrap();
        let mut bytes = fs::read(image.path()).unwrap();
        bytes[sectors(1..2)].fill(7);
        fs::write(image.path(), &bytes).unwrap();
        assert!(image.is_untouched().is_err());
        image.has(sectors(1..2), 7).unwrap();
        assert!(image.has(sectors(1..3), 7).is_err());
        assert!(image.has(sectors(3..4), 7).is_err());
        image.holds(|wanted| wanted[sectors(1..2)].fill(7)).unwrap();
        bytes.pop();
        fs::write(image.path(), &bytes).unwrap();
        assert!(image.holds(|wanted| wanted[sectors(1..2)].fill(7)).is_err());
    }
}
