//! The value of `--disk`: a path, or `path=FILE,key=value,...`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use cafevm_devices::block::format::Backing;
use cafevm_devices::block::nbd::{NbdOptions, NbdUri, TlsFiles, UriError};
use cafevm_devices::block::{Access, Cache, EngineKind, Limits};
use cafevm_devices::svirtb::EntrySize;
use cafevm_devices::virtio::blk::{BlkError, BlkOptions};

use crate::config::limits::{Given, limits};
use crate::config::{DiskBus, DiskConfig, Doorbell, ImageFormat, Layers, LimitsError, OnFull};
use crate::nearest::do_you_mean;
use crate::size::{self, SizeError};

/// Each key, and its bus, if it applies to one bus only.
const KEYS: [(&str, Option<&str>); 25] = [
    ("path", None),
    ("bus", None),
    ("readonly", None),
    ("snapshot", None),
    ("format", None),
    ("backing", None),
    ("overlay", None),
    ("cache", None),
    ("engine", None),
    ("werror", None),
    ("bps", None),
    ("bps-burst", None),
    ("iops", None),
    ("iops-burst", None),
    ("connections", None),
    ("reconnect", None),
    ("tls-ca", None),
    ("tls-cert", None),
    ("tls-key", None),
    ("id", Some("virtio")),
    ("queues", Some("virtio")),
    ("queue-size", Some("virtio")),
    ("block-size", Some("virtio")),
    ("doorbell", Some("virtio")),
    ("entry-size", Some("svirtb")),
];

/// The keys for a disk on an NBD server.
const NBD_KEYS: [&str; 5] = ["connections", "reconnect", "tls-ca", "tls-cert", "tls-key"];

/// Why a value of `--disk` is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An unknown key.
    #[error(
        "unknown key '{}'{}; the keys are {}; a comma in a path is written ',,'{}",
        key.escape_debug(), do_you_mean(key, known_keys()), KEYS.map(|(known, _)| known).join(", "),
        path_hint(path.as_deref())
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// The whole item, if it is the first one, which may be a path.
        path: Option<String>,
    },
    /// A comma with nothing after it.
    #[error(
        "a key is missing after a comma; leave the comma out, or write ',,' for a comma in a path"
    )]
    Empty,
    /// A key without a value.
    #[error("'{0}' needs a value: {0}=...")]
    NoValue(String),
    /// A key that is given twice.
    #[error("'{0}' is given twice; give it once")]
    Twice(&'static str),
    /// The path is missing.
    #[error("no path; give path=FILE")]
    NoPath,
    /// An unknown value.
    #[error("bad value '{}' for {key}; it is one of {known}", value.escape_debug())]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The known values.
        known: String,
    },
    /// An option that a virtio disk cannot have.
    #[error(transparent)]
    Blk(#[from] BlkError),
    /// Limits that contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// A size that is none.
    #[error("bad value for {key}: {why}")]
    BadSize {
        /// The key.
        key: &'static str,
        /// What is wrong.
        why: SizeError,
    },
    /// The URI of an NBD server.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A key for NBD on another disk.
    #[error("{0} is for a disk on an NBD server (path=nbd://...); leave it out")]
    NotNbd(&'static str),
    /// A value that a disk on an NBD server cannot have.
    #[error("{key} is not for a disk on an NBD server: {why}; leave it out")]
    OnNbd {
        /// The key.
        key: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A key of the other bus.
    #[error("{key} is for bus={bus}; leave it out, or give bus={bus}")]
    WrongBus {
        /// The key.
        key: &'static str,
        /// The bus it belongs to.
        bus: &'static str,
    },
}

fn known_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(known, _)| *known)
}

fn path_hint(path: Option<&str>) -> String {
    path.map(|path| {
        let path = path.replace(',', ",,");
        format!("; if it is a path, write path={}", path.escape_debug())
    })
    .unwrap_or_default()
}

/// Parses the value. A path may hold any bytes.
///
/// # Errors
///
/// The first key or value that is wrong.
pub fn parse(text: impl AsRef<OsStr>) -> Result<DiskConfig, SpecError> {
    let mut values = Values::default();
    for (n, item) in split(text.as_ref().as_bytes()).into_iter().enumerate() {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // A URI may have a '='.
        if n == 0 && NbdUri::is_meant(&item) {
            values.set("path", item)?;
            continue;
        }
        match item.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let (key, value) = (lossy(&item[..at]), item[at + 1..].to_vec());
                let path = (n == 0).then(|| lossy(&item));
                values.set(known(&key, path)?, value)?;
            }
            None if n == 0 => values.set("path", item)?,
            None if item.is_empty() => return Err(SpecError::Empty),
            None if item == b"ro" => values.set("readonly", b"on".to_vec())?,
            None => {
                known(&lossy(&item), None)?;
                return Err(SpecError::NoValue(lossy(&item)));
            }
        }
    }
    values.into_disk()
}

/// Splits at commas; two commas in a row stand for one comma in the text.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut bytes = text.iter().peekable();
    while let Some(&byte) = bytes.next() {
        let meant = byte != b',' || bytes.next_if(|next| **next == b',').is_some();
        match items.last_mut() {
            Some(item) if meant => item.push(byte),
            _ => items.push(Vec::new()),
        }
    }
    items
}

/// Finds the key in the list of keys; `path` is the whole item, if that may be a path.
fn known(key: &str, path: Option<String>) -> Result<&'static str, SpecError> {
    let found = known_keys().find(|known| *known == if key == "ro" { "readonly" } else { key });
    found.ok_or_else(|| SpecError::UnknownKey { key: key.to_owned(), path })
}

/// The values that are not used yet, by key.
#[derive(Default)]
struct Values(BTreeMap<&'static str, OsString>);

impl Values {
    fn set(&mut self, key: &'static str, value: Vec<u8>) -> Result<(), SpecError> {
        match self.0.insert(key, OsString::from_vec(value)) {
            Some(_) => Err(SpecError::Twice(key)),
            None => Ok(()),
        }
    }

    /// Takes a value as text. Bytes that are not UTF-8 are replaced: no known value has any.
    fn text(&mut self, key: &'static str) -> Option<String> {
        self.0.remove(key).map(|value| value.to_string_lossy().into_owned())
    }

    fn id(&mut self) -> Result<String, SpecError> {
        let id = self.0.remove("id").unwrap_or_default().into_string();
        id.map_err(|value| SpecError::BadValue {
            key: "id",
            value: value.to_string_lossy().into_owned(),
            known: "texts in UTF-8".to_owned(),
        })
    }

    /// Takes a value that is one of `choices`; `default` if the key is missing.
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

    /// Takes the keys of limits: requests are a number, bytes a size.
    fn limits(&mut self) -> Result<Limits, SpecError> {
        let mut size = |key| match self.text(key) {
            Some(text) => match size::parse(&text) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(why) => Err(SpecError::BadSize { key, why }),
            },
            None => Ok(None),
        };
        let bytes = Given { per_second: size("bps")?, burst: size("bps-burst")? };
        let mut number = |key| match self.text(key) {
            Some(value) => match value.parse() {
                Ok(count) => Ok(Some(count)),
                Err(_) => {
                    let known = "the whole numbers; 0 is no limit".to_owned();
                    Err(SpecError::BadValue { key, value, known })
                }
            },
            None => Ok(None),
        };
        let requests = Given { per_second: number("iops")?, burst: number("iops-burst")? };
        Ok(limits(bytes, requests)?)
    }

    fn into_disk(mut self) -> Result<DiskConfig, SpecError> {
        let path =
            self.0.remove("path").filter(|path| !path.is_empty()).ok_or(SpecError::NoPath)?;
        let access = [("on", Access::ReadOnly), ("off", Access::ReadWrite)];
        let cache = [
            ("writeback", Cache::WriteBack),
            ("writethrough", Cache::WriteThrough),
            ("none", Cache::None),
            ("unsafe", Cache::Unsafe),
        ];
        let on_full = [("report", OnFull::Report), ("stop", OnFull::Stop)];
        let nbd = self.nbd(&path)?;
        Ok(DiskConfig {
            access: self.choice("readonly", &access, Access::ReadWrite)?,
            snapshot: self.choice("snapshot", &[("on", true), ("off", false)], false)?,
            cache: self.choice("cache", &cache, Cache::default())?,
            engine: self.choice("engine", &EngineKind::ALL, EngineKind::default())?,
            layers: self.layers()?,
            on_full: self.choice("werror", &on_full, OnFull::default())?,
            limits: self.limits()?,
            nbd,
            bus: self.bus()?,
            doorbell: self.choice("doorbell", &Doorbell::ALL, Doorbell::default())?,
            ..DiskConfig::new(path)
        })
    }

    /// Takes the keys of a disk on an NBD server, if the path is the URI of one.
    fn nbd(&mut self, path: &OsStr) -> Result<Option<NbdOptions>, SpecError> {
        let given = |values: &Self, key: &str| values.0.get(key).cloned();
        if !NbdUri::is_meant(path.as_bytes()) {
            let stray = NBD_KEYS.into_iter().find(|key| self.0.contains_key(key));
            return stray.map_or(Ok(None), |key| Err(SpecError::NotNbd(key)));
        }
        for (key, why) in [
            ("engine", "what moves the bytes is the server"),
            ("format", "the server's export is the disk, whatever it is made of"),
            ("backing", "the server's export is the disk, whatever it is made of"),
            ("overlay", "the layer of an overlay needs an image that is a file"),
        ] {
            if given(self, key).is_some() {
                return Err(SpecError::OnNbd { key, why });
            }
        }
        if given(self, "cache").is_some_and(|cache| cache == "none" || cache == "unsafe") {
            let why = "the cache is the server's; cache=writeback and cache=writethrough say when the guest's writes are \
                       flushed there";
            return Err(SpecError::OnNbd { key: "cache=none or unsafe", why });
        }
        for key in ["format", "backing", "overlay"] {
            if given(self, key).is_some() {
                let why =
                    "the server has the format, and writes can go to a layer only with snapshot=on";
                return Err(SpecError::OnNbd { key, why });
            }
        }
        let uri: NbdUri = path.to_string_lossy().parse()?;
        let usual = NbdOptions::new(uri);
        let seconds = u16::try_from(usual.reconnect.as_secs()).unwrap_or(u16::MAX);
        let reconnect = match self.text("reconnect").as_deref() {
            Some("0") => 0,
            Some(text) => {
                self.0.insert("reconnect", text.into());
                self.number("reconnect", seconds)?
            }
            None => seconds,
        };
        let mut file = |key| self.0.remove(key).filter(|path| !path.is_empty()).map(Into::into);
        let tls = TlsFiles { ca: file("tls-ca"), cert: file("tls-cert"), key: file("tls-key") };
        let connections = self.number("connections", usual.connections)?;
        let reconnect = Duration::from_secs(reconnect.into());
        Ok(Some(NbdOptions { connections, reconnect, tls, ..usual }))
    }

    fn layers(&mut self) -> Result<Layers, SpecError> {
        let formats = [("raw", ImageFormat::Raw), ("qcow2", ImageFormat::Qcow2)];
        let backing = [("refuse", Backing::Refuse), ("allow", Backing::Allow)];
        let overlay = self.0.remove("overlay").map(PathBuf::from);
        if overlay.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(SpecError::NoValue("overlay".to_owned()));
        }
        Ok(Layers {
            format: self.choice("format", &formats, ImageFormat::default())?,
            backing: self.choice("backing", &backing, Backing::default())?,
            overlay,
        })
    }

    /// Takes the keys of the bus.
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
        let usual = BlkOptions::default();
        let options = BlkOptions {
            id: self.id()?,
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
#[path = "spec_tests.rs"]
mod tests;
