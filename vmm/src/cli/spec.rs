//! What stands behind `--disk`: a path, or `path=FILE,key=value,...`.

use std::collections::BTreeMap;

use cafevm_devices::block::{Access, Cache};
use cafevm_devices::svirtb::EntrySize;
use cafevm_devices::virtio::blk::{BlkError, Options};

use crate::config::{DiskBus, DiskConfig, OnFull};

/// Each key, and the bus that it is for, where it is for one only.
const KEYS: [(&str, Option<&str>); 11] = [
    ("path", None),
    ("bus", None),
    ("readonly", None),
    ("snapshot", None),
    ("cache", None),
    ("werror", None),
    ("id", Some("virtio")),
    ("queues", Some("virtio")),
    ("queue-size", Some("virtio")),
    ("block-size", Some("virtio")),
    ("entry-size", Some("svirtb")),
];

/// Why a SPEC is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no such key.
    #[error(
        "unknown key '{}'{}; the keys are {}; a comma in a path is written ',,'",
        key.escape_debug(), hint(key), KEYS.map(|(known, _)| known).join(", ")
    )]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key stands there without its value.
    #[error("'{0}' needs a value: {0}=...")]
    NoValue(String),
    /// A key stands there twice.
    #[error("'{0}' is given twice; give it once")]
    Twice(&'static str),
    /// There is no path.
    #[error("no path; give path=FILE")]
    NoPath,
    /// A value is none of those that are known.
    #[error("bad value '{}' for {key}; it is one of {known}", value.escape_debug())]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The values there are.
        known: String,
    },
    /// A virtio disk cannot be so.
    #[error(transparent)]
    Blk(#[from] BlkError),
    /// The key says nothing about the bus.
    #[error("{key} is for bus={bus}; leave it out, or give bus={bus}")]
    WrongBus {
        /// The key.
        key: &'static str,
        /// The bus it belongs to.
        bus: &'static str,
    },
}

fn hint(key: &str) -> String {
    let nearest = KEYS.iter().map(|(known, _)| (distance(key, known), known)).min();
    match nearest {
        // More than half of it wrong is another word.
        Some((distance, known)) if distance * 2 <= key.len() => {
            format!(" (do you mean '{known}'?)")
        }
        _ => String::new(),
    }
}

/// How many letters must be changed, added or left out to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut last = i + 1;
        let mut next = vec![last];
        for ((y, &above_left), &above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            last = (above_left + usize::from(x != y)).min(above + 1).min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Reads a SPEC.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(text: &str) -> Result<DiskConfig, SpecError> {
    let mut values = Values::default();
    for (n, item) in split(text).into_iter().enumerate() {
        match item.split_once('=') {
            Some((key, value)) => values.set(key, value)?,
            None if n == 0 => values.set("path", &item)?,
            None if item == "ro" => values.set("readonly", "on")?,
            None if known(&item).is_ok() => return Err(SpecError::NoValue(item)),
            None => return Err(SpecError::UnknownKey { key: item }),
        }
    }
    values.into_disk()
}

/// Splits at commas; two of them are one that is meant.
fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let meant = c != ',' || chars.next_if_eq(&',').is_some();
        match items.last_mut() {
            Some(item) if meant => item.push(c),
            _ => items.push(String::new()),
        }
    }
    items
}

/// The key that `key` is, as a text that lasts.
fn known(key: &str) -> Result<&'static str, SpecError> {
    let key = if key == "ro" { "readonly" } else { key };
    let found = KEYS.iter().find(|(known, _)| *known == key);
    found.map(|(known, _)| *known).ok_or_else(|| SpecError::UnknownKey { key: key.to_owned() })
}

/// The values as they stand there, by key; those read are gone.
#[derive(Default)]
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        let key = known(key)?;
        match self.0.insert(key, value.to_owned()) {
            Some(_) => Err(SpecError::Twice(key)),
            None => Ok(()),
        }
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        self.0.remove(key)
    }

    /// What the value stands for; the first one where there is none.
    fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, SpecError> {
        let Some(value) = self.text(key) else { return Ok(default) };
        match choices.iter().find(|(text, _)| *text == value) {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let known: Vec<_> = choices.iter().map(|(text, _)| *text).collect();
                Err(SpecError::BadValue { key, value, known: known.join(", ") })
            }
        }
    }

    fn number(&mut self, key: &'static str, default: u16) -> Result<u16, SpecError> {
        let Some(value) = self.text(key) else { return Ok(default) };
        let known = || "the whole numbers from 1 on".to_owned();
        value.parse().map_err(|_| SpecError::BadValue { key, value, known: known() })
    }

    fn into_disk(mut self) -> Result<DiskConfig, SpecError> {
        let path = self.text("path").filter(|path| !path.is_empty()).ok_or(SpecError::NoPath)?;
        let access = [("on", Access::ReadOnly), ("off", Access::ReadWrite)];
        let cache = [
            ("writeback", Cache::WriteBack),
            ("writethrough", Cache::WriteThrough),
            ("none", Cache::None),
            ("unsafe", Cache::Unsafe),
        ];
        let on_full = [("report", OnFull::Report), ("stop", OnFull::Stop)];
        Ok(DiskConfig {
            access: self.choice("readonly", &access, Access::ReadWrite)?,
            snapshot: self.choice("snapshot", &[("on", true), ("off", false)], false)?,
            cache: self.choice("cache", &cache, Cache::default())?,
            on_full: self.choice("werror", &on_full, OnFull::default())?,
            bus: self.bus()?,
            ..DiskConfig::new(path)
        })
    }

    /// Reads all that is left.
    fn bus(&mut self) -> Result<DiskBus, SpecError> {
        let name = self.choice("bus", &[("virtio", "virtio"), ("svirtb", "svirtb")], "virtio")?;
        let other = |(key, bus): &(&'static str, Option<&'static str>)| {
            bus.filter(|bus| *bus != name && self.0.contains_key(key)).map(|bus| (*key, bus))
        };
        if let Some((key, bus)) = KEYS.iter().find_map(other) {
            return Err(SpecError::WrongBus { key, bus });
        }
        if name == "svirtb" {
            let sizes =
                [("auto", EntrySize::Auto), ("32", EntrySize::Padded), ("28", EntrySize::Packed)];
            let entry_size = self.choice("entry-size", &sizes, EntrySize::Auto)?;
            return Ok(DiskBus::Svirtb { entry_size });
        }
        let usual = Options::default();
        let options = Options {
            id: self.text("id").unwrap_or_default(),
            queues: self.number("queues", usual.queues)?,
            queue_size: self.number("queue-size", usual.queue_size)?,
            block_size: self.choice("block-size", &[("512", 512), ("4096", 4096)], 512)?,
            ..usual
        };
        options.check()?;
        Ok(DiskBus::Virtio(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, access: Access, bus: DiskBus) -> DiskConfig {
        DiskConfig { access, bus, ..DiskConfig::new(path) }
    }

    fn virtio(id: &str) -> DiskBus {
        DiskBus::Virtio(Options { id: id.to_owned(), ..Options::default() })
    }

    #[test]
    fn a_spec_is_a_path_or_keys() {
        let rw = Access::ReadWrite;
        let svirtb = |entry_size| DiskBus::Svirtb { entry_size };
        for (text, expected) in [
            ("d.img", disk("d.img", rw, virtio(""))),
            ("path=d.img", disk("d.img", rw, virtio(""))),
            ("d.img,ro", disk("d.img", Access::ReadOnly, virtio(""))),
            ("path=d.img,readonly=on,id=root", disk("d.img", Access::ReadOnly, virtio("root"))),
            ("path=d.img,bus=svirtb", disk("d.img", rw, svirtb(EntrySize::Auto))),
            ("bus=svirtb,entry-size=28,path=a=b", disk("a=b", rw, svirtb(EntrySize::Packed))),
            ("path=a,,b.img,bus=virtio", disk("a,b.img", rw, virtio(""))),
            ("/tmp/a,,,,b", disk("/tmp/a,,b", rw, virtio(""))),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for bus in ["virtio", "svirtb"] {
            let snapshot =
                |value| parse(&format!("d,bus={bus},snapshot={value}")).unwrap().snapshot;
            assert!(snapshot("on") && !snapshot("off"));
        }
        assert!(!parse("d").unwrap().snapshot);
    }

    #[test]
    fn a_virtio_disk_has_its_own_keys() {
        let text = "d,cache=none,werror=stop,queues=4,queue-size=1024,block-size=4096,id=x";
        let options = Options {
            id: "x".to_owned(),
            queues: 4,
            queue_size: 1024,
            block_size: 4096,
            ..Options::default()
        };
        let expected = DiskConfig {
            cache: Cache::None,
            on_full: OnFull::Stop,
            bus: DiskBus::Virtio(options),
            ..DiskConfig::new("d")
        };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out() {
        for (text, says) in [
            ("path=d,reodonly=on", "unknown key 'reodonly' (do you mean 'readonly'?)"),
            ("path=d,format=raw", "unknown key 'format'; the keys are path, bus"),
            (
                "path=d,cache=",
                "bad value '' for cache; it is one of writeback, writethrough, none, unsafe",
            ),
            ("path=d,queues=0", "0 queues: a disk has 1 to 16"),
            ("path=d,queues=many", "bad value 'many' for queues"),
            ("path=d,queue-size=100", "power of two from 4 to 1024"),
            ("path=d,queue-size=2", "a queue of 2 entries: the size is a power of two from 4"),
            ("path=d,queue-size=65544", "bad value '65544' for queue-size"),
            ("path=d,block-size=1024", "it is one of 512, 4096"),
            ("path=d,bus=svirtb,queues=2", "queues is for bus=virtio"),
            ("a,b.img", "a comma in a path is written ',,'"),
            ("path=d,bus=scsi", "bad value 'scsi' for bus; it is one of virtio, svirtb"),
            ("path=d,readonly=yes", "bad value 'yes' for readonly; it is one of on, off"),
            ("path=d,snapshot=yes", "bad value 'yes' for snapshot; it is one of on, off"),
            ("path=d,bus=svirtb,entry-size=30", "it is one of auto, 32, 28"),
            ("path=d,entry-size=32", "entry-size is for bus=svirtb"),
            ("path=d,bus=svirtb,id=x", "id is for bus=virtio"),
            ("path=d,id=123456789012345678901", "has 21 bytes; a disk's id has at most 20"),
            ("path=d,bus", "'bus' needs a value"),
            ("path=d,path=e", "'path' is given twice"),
            ("ro,path=e", "'path' is given twice"),
            ("bus=virtio", "no path; give path=FILE"),
            ("path=", "no path"),
            ("", "no path"),
            ("d.img,", "unknown key ''"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
