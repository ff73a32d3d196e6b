//! What stands behind `--disk`: a path, or `path=FILE,key=value,...`.

use cafevm_devices::block::Access;
use cafevm_devices::svirtb::EntrySize;

use crate::config::{DiskBus, DiskConfig};

/// The most bytes of an id (virtio 1.2, 5.2.6: GET_ID).
const ID_MAX: usize = 20;

const KEYS: [&str; 6] = ["path", "bus", "readonly", "id", "entry-size", "ro"];

/// Why a SPEC is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no such key.
    #[error(
        "unknown key '{key}'{}; the keys are path, bus, readonly (or ro), id and entry-size; a comma in a path is written ',,'",
        hint(key)
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
    #[error("bad value '{value}' for {key}; it is one of {known}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The values there are.
        known: &'static str,
    },
    /// The id does not fit.
    #[error("id '{0}' is too long; it has at most 20 bytes")]
    LongId(String),
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
    let nearest = KEYS.iter().map(|known| (distance(key, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 2 => format!(" (do you mean '{known}'?)"),
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
            None if n == 0 => put(&mut values.path, "path", &item)?,
            None if item == "ro" => put(&mut values.readonly, "readonly", "on")?,
            None if KEYS.contains(&item.as_str()) => return Err(SpecError::NoValue(item)),
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

/// The values as they stand there.
#[derive(Default)]
struct Values {
    path: Option<String>,
    bus: Option<String>,
    readonly: Option<String>,
    id: Option<String>,
    entry_size: Option<String>,
}

fn put(place: &mut Option<String>, key: &'static str, value: &str) -> Result<(), SpecError> {
    match place.replace(value.to_owned()) {
        Some(_) => Err(SpecError::Twice(key)),
        None => Ok(()),
    }
}

impl Values {
    fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        match key {
            "path" => put(&mut self.path, "path", value),
            "bus" => put(&mut self.bus, "bus", value),
            "readonly" | "ro" => put(&mut self.readonly, "readonly", value),
            "id" => put(&mut self.id, "id", value),
            "entry-size" => put(&mut self.entry_size, "entry-size", value),
            _ => Err(SpecError::UnknownKey { key: key.to_owned() }),
        }
    }

    fn into_disk(self) -> Result<DiskConfig, SpecError> {
        let Self { path, bus, readonly, id, entry_size } = self;
        let bad = |key, value, known| SpecError::BadValue { key, value, known };
        let path = path.filter(|path| !path.is_empty()).ok_or(SpecError::NoPath)?;
        let access = match readonly.as_deref() {
            None | Some("off") => Access::ReadWrite,
            Some("on") => Access::ReadOnly,
            Some(other) => return Err(bad("readonly", other.to_owned(), "on, off")),
        };
        let wanted_size = match entry_size.as_deref() {
            None => None,
            Some("auto") => Some(EntrySize::Auto),
            Some("32") => Some(EntrySize::Padded),
            Some("28") => Some(EntrySize::Packed),
            Some(other) => return Err(bad("entry-size", other.to_owned(), "auto, 32, 28")),
        };
        let bus = match bus.as_deref() {
            None | Some("virtio") => {
                if wanted_size.is_some() {
                    return Err(SpecError::WrongBus { key: "entry-size", bus: "svirtb" });
                }
                let id = id.unwrap_or_default();
                if id.len() > ID_MAX {
                    return Err(SpecError::LongId(id));
                }
                DiskBus::Virtio { id }
            }
            Some("svirtb") => {
                if id.is_some() {
                    return Err(SpecError::WrongBus { key: "id", bus: "virtio" });
                }
                DiskBus::Svirtb { entry_size: wanted_size.unwrap_or(EntrySize::Auto) }
            }
            Some(other) => return Err(bad("bus", other.to_owned(), "virtio, svirtb")),
        };
        Ok(DiskConfig { path: path.into(), access, bus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, access: Access, bus: DiskBus) -> DiskConfig {
        DiskConfig { path: path.into(), access, bus }
    }

    fn virtio(id: &str) -> DiskBus {
        DiskBus::Virtio { id: id.to_owned() }
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
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out() {
        for (text, says) in [
            ("path=d,reodonly=on", "unknown key 'reodonly' (do you mean 'readonly'?)"),
            ("path=d,cache=none", "unknown key 'cache'; the keys are path, bus"),
            ("a,b.img", "a comma in a path is written ',,'"),
            ("path=d,bus=scsi", "bad value 'scsi' for bus; it is one of virtio, svirtb"),
            ("path=d,readonly=yes", "bad value 'yes' for readonly; it is one of on, off"),
            ("path=d,bus=svirtb,entry-size=30", "it is one of auto, 32, 28"),
            ("path=d,entry-size=32", "entry-size is for bus=svirtb"),
            ("path=d,bus=svirtb,id=x", "id is for bus=virtio"),
            ("path=d,id=123456789012345678901", "too long"),
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
