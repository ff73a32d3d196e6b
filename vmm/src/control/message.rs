//! The messages of the control socket: JSON objects with one key, the name of the message.

use std::path::PathBuf;

use cafevm_devices::block::Limits;
use serde_json::{Map, Value};

use crate::config::{self, limits::Given};
use crate::size;

/// An example of each message.
const EXAMPLES: &str = concat!(
    r#"{"status":{}}, {"explain":{}}, {"pause":{}}, {"resume":{}}, {"quit":{}}, "#,
    r#"{"resize":{"id":"virtio0","size":"64M"}}, {"backup":{"id":"virtio0","to":"FILE"}}, "#,
    r#"{"commit":{"id":"virtio0"}}, {"limit":{"id":"virtio0","bps":"10M","iops":1000}}"#
);

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Enlarge a virtio disk.
    Resize {
        /// The disk's id or name.
        id: String,
        /// Its new size.
        bytes: u64,
    },
    /// Change the limits of a disk.
    Limit {
        /// The disk's id or name.
        id: String,
        limits: Limits,
    },
    /// Copy a disk to a new file.
    Backup {
        /// The disk's id or name.
        id: String,
        /// The file.
        to: PathBuf,
    },
    /// Write an overlay into its base.
    Commit {
        /// The disk's id or name.
        id: String,
    },
    Pause,
    Resume,
    Status,
    /// Explain what the guest waits for.
    Explain,
    Quit,
}

impl Message {
    /// Parses a line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what is allowed.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| {
            format!("this is not JSON (the mistake is at byte {}); {}", error.column(), messages())
        })?;
        let Value::Object(object) = value else {
            return Err(format!("a message is a JSON object; {}", messages()));
        };
        let mut entries = object.into_iter();
        let (Some((name, body)), None) = (entries.next(), entries.next()) else {
            return Err(format!("a message is a JSON object with one key; {}", messages()));
        };
        let Value::Object(mut body) = body else {
            return Err(format!("the value of \"{name}\" is a JSON object; {}", messages()));
        };
        let message = match name.as_str() {
            "status" => Self::Status,
            "explain" => Self::Explain,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "quit" => Self::Quit,
            "resize" => Self::Resize { id: id(&name, &mut body)?, bytes: bytes(&mut body)? },
            "limit" => Self::Limit { id: id(&name, &mut body)?, limits: limits(&mut body)? },
            "backup" => Self::Backup { id: id(&name, &mut body)?, to: to(&mut body)? },
            "commit" => Self::Commit { id: id(&name, &mut body)? },
            _ => return Err(format!("there is no message \"{name}\"; {}", messages())),
        };
        match body.keys().next() {
            Some(key) => Err(format!("\"{name}\" has no \"{key}\"; leave it out")),
            None => Ok(message),
        }
    }
}

fn messages() -> String {
    format!("the messages are {EXAMPLES}")
}

fn id(message: &str, body: &mut Map<String, Value>) -> Result<String, String> {
    match body.remove("id") {
        Some(Value::String(id)) => Ok(id),
        Some(other) => Err(format!("the id {other} is not a text; give a disk's id or name")),
        None => {
            Err(format!("\"{message}\" needs an \"id\": a disk's id or name, such as \"virtio0\""))
        }
    }
}

fn to(body: &mut Map<String, Value>) -> Result<PathBuf, String> {
    match body.remove("to") {
        Some(Value::String(path)) if !path.is_empty() => Ok(path.into()),
        Some(other) => Err(format!("to {other} is not the path of a file")),
        None => Err("\"backup\" needs a \"to\": the path of a file that does not exist".to_owned()),
    }
}

fn bytes(body: &mut Map<String, Value>) -> Result<u64, String> {
    match body.remove("size") {
        Some(value) => size_of("size", &value),
        None => Err("\"resize\" needs a \"size\": bytes, or a text such as \"64M\"".to_owned()),
    }
}

/// A size in bytes, or a text.
fn size_of(key: &str, value: &Value) -> Result<u64, String> {
    match value {
        Value::String(text) => {
            size::parse(text).map_err(|error| format!("{key} {text:?}: {error}"))
        }
        other => other.as_u64().ok_or_else(|| {
            format!(
                "the {key} {other} is neither a whole number of bytes nor a text such as \"64M\""
            )
        }),
    }
}

/// Limits; what is left out or null is not limited.
fn limits(body: &mut Map<String, Value>) -> Result<Limits, String> {
    let mut take = |key| body.remove(key).filter(|value| !value.is_null());
    let (bps, bps_burst) = (take("bps"), take("bps-burst"));
    let (iops, iops_burst) = (take("iops"), take("iops-burst"));
    let size = |key, value: Option<Value>| value.map(|value| size_of(key, &value)).transpose();
    let number = |key, value: Option<Value>| {
        let parse = |value: Value| {
            value.as_u64().ok_or_else(|| format!("the {key} {value} is no whole number"))
        };
        value.map(parse).transpose()
    };
    let bytes = Given { per_second: size("bps", bps)?, burst: size("bps-burst", bps_burst)? };
    let requests =
        Given { per_second: number("iops", iops)?, burst: number("iops-burst", iops_burst)? };
    config::limits::limits(bytes, requests).map_err(|error| error.to_string())
}
