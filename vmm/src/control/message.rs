//! The messages of the control socket: JSON objects with one key, the name of the message.

use std::path::PathBuf;

use cafevm_devices::block::Limits;
use serde_json::{Map, Value};

use crate::config::{self, limits::Given};
use crate::display::hands::{Buttons, bit};
use crate::display::keys::codes::{self, Button};
use crate::nearest::do_you_mean;
use crate::size;

/// An example of each message.
const EXAMPLES: &str = concat!(
    r#"{"status":{}}, {"explain":{}}, {"pause":{}}, {"resume":{}}, {"quit":{}}, "#,
    r#"{"resize":{"id":"virtio0","size":"64M"}}, {"backup":{"id":"virtio0","to":"FILE"}}, "#,
    r#"{"commit":{"id":"virtio0"}}, {"limit":{"id":"virtio0","bps":"10M","iops":1000}}, "#,
    r#"{"screenshot":{"to":"x.png"}}, {"keys":["ctrl","alt","delete"]}, {"type":"text"}, "#,
    r#"{"pointer":{"x":10,"y":20,"buttons":["left"]}}"#
);
/// The most keys of a chord, and the most steps of a mouse or a wheel in one message.
const KEYS_MAX: usize = 16;
const STEPS_MAX: i64 = 0x7fff;

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
    /// Write a PNG file.
    Screenshot {
        to: PathBuf,
        /// With the cursor.
        cursor: bool,
    },
    /// Press keys, then release them.
    Keys(Vec<u16>),
    /// Type a text.
    Type(String),
    /// Move the pointer, and hold buttons.
    Pointer {
        place: Place,
        buttons: Option<Buttons>,
        wheel: i32,
    },
}

/// Where the pointer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// To a pixel of the screen.
    At(u32, u32),
    /// By so many steps of a mouse.
    By(i32, i32),
    /// Nowhere.
    Here,
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
        let mut body = match (name.as_str(), body) {
            ("keys", body) => return keys(&body).map(Self::Keys),
            ("type", Value::String(text)) => return Ok(Self::Type(text)),
            ("type", _) => return Err("the value of \"type\" is a text".to_owned()),
            (_, Value::Object(body)) => body,
            _ => {
                return Err(format!("the value of \"{name}\" is a JSON object; {}", messages()));
            }
        };
        let message = match name.as_str() {
            "status" => Self::Status,
            "explain" => Self::Explain,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "quit" => Self::Quit,
            "resize" => Self::Resize { id: id(&name, &mut body)?, bytes: bytes(&mut body)? },
            "limit" => Self::Limit { id: id(&name, &mut body)?, limits: limits(&mut body)? },
            "backup" => Self::Backup { id: id(&name, &mut body)?, to: to(&name, &mut body)? },
            "commit" => Self::Commit { id: id(&name, &mut body)? },
            "screenshot" => {
                Self::Screenshot { to: to(&name, &mut body)?, cursor: cursor(&mut body)? }
            }
            "pointer" => pointer(&mut body)?,
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

fn to(message: &str, body: &mut Map<String, Value>) -> Result<PathBuf, String> {
    match body.remove("to") {
        Some(Value::String(path)) if !path.is_empty() => Ok(path.into()),
        Some(other) => Err(format!("{other} is no path; give the path of a file as \"to\"")),
        None => Err(format!("\"{message}\" needs a \"to\": the path of the file that is written")),
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

fn cursor(body: &mut Map<String, Value>) -> Result<bool, String> {
    match body.remove("cursor") {
        None => Ok(false),
        Some(Value::Bool(cursor)) => Ok(cursor),
        Some(other) => Err(format!("\"cursor\" is true or false, and not {other}")),
    }
}

/// The codes of the keys of a chord.
fn keys(body: &Value) -> Result<Vec<u16>, String> {
    let wrong = "the value of \"keys\" is a list of names, such as [\"ctrl\",\"alt\",\"delete\"]";
    let Value::Array(names) = body else { return Err(wrong.to_owned()) };
    if names.is_empty() || names.len() > KEYS_MAX {
        return Err(format!("{wrong}: 1 to {KEYS_MAX} of them"));
    }
    let code = |name: &Value| {
        let name = name.as_str().ok_or(wrong)?;
        codes::named(name).ok_or_else(|| {
            let hint = do_you_mean(name, codes::names());
            format!(
                "there is no key {name:?}{hint}; keys have the names of Linux without KEY_, such as \"a\", \"enter\", \
                 \"leftctrl\", \"f1\""
            )
        })
    };
    names.iter().map(code).collect()
}

fn pointer(body: &mut Map<String, Value>) -> Result<Message, String> {
    let mut number = |key: &str| match body.remove(key) {
        None => Ok(None),
        Some(value) => value
            .as_i64()
            .filter(|number| (-STEPS_MAX..=STEPS_MAX).contains(number))
            .and_then(|number| i32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| {
                format!("\"{key}\" is a whole number of at most {STEPS_MAX}, and not {value}")
            }),
    };
    let (x, y, dx, dy) = (number("x")?, number("y")?, number("dx")?, number("dy")?);
    let wheel = number("wheel")?;
    let pixel = |at: i32| u32::try_from(at).map_err(|_| format!("pixel {at} is not on the screen"));
    let place = match (x, y, dx, dy) {
        (Some(x), Some(y), None, None) => Place::At(pixel(x)?, pixel(y)?),
        (None, None, None, None) => Place::Here,
        (None, None, dx, dy) => Place::By(dx.unwrap_or(0), dy.unwrap_or(0)),
        _ => return Err("give \"x\" and \"y\", or \"dx\" and \"dy\" for a mouse".to_owned()),
    };
    let buttons = body.remove("buttons").map(|buttons| held(&buttons)).transpose()?;
    if place == Place::Here && buttons.is_none() && wheel.is_none() {
        return Err(
            "\"pointer\" needs \"x\" and \"y\", \"dx\" and \"dy\", \"buttons\" or \"wheel\""
                .to_owned(),
        );
    }
    Ok(Message::Pointer { place, buttons, wheel: wheel.unwrap_or(0) })
}

/// The buttons of a list of names.
fn held(names: &Value) -> Result<Buttons, String> {
    let known = || Button::ALL.map(Button::name).join(", ");
    let Value::Array(names) = names else {
        return Err(format!("\"buttons\" is a list of those that are held: {}", known()));
    };
    names.iter().try_fold(0, |all, name| {
        let named = |button: &Button| name.as_str() == Some(button.name());
        let button = Button::ALL.into_iter().find(named);
        button
            .map(|button| all | bit(button))
            .ok_or_else(|| format!("there is no button {name}; the buttons are {}", known()))
    })
}
