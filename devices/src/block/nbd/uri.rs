//! NBD URIs, as `doc/uri.md` of the project NetworkBlockDevice/nbd specifies them.

use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::{ffi::OsString, str::FromStr};

use super::wire::LONGEST_TEXT;

/// The port of NBD (IANA).
const PORT: u16 = 10809;

/// The schemes, with their transport, and whether they use TLS.
const SCHEMES: [(&str, Transport, bool); 6] = [
    ("nbd", Transport::Tcp, false),
    ("nbds", Transport::Tcp, true),
    ("nbd+unix", Transport::Unix, false),
    ("nbds+unix", Transport::Unix, true),
    ("nbd+vsock", Transport::Vsock, false),
    ("nbds+vsock", Transport::Vsock, true),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Unix,
    Vsock,
}

/// The place of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A host name or address, and a port.
    Tcp {
        /// The host, without the brackets of an IPv6 address.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An export of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdUri {
    text: String,
    server: Server,
    /// The name that the server's certificate must have.
    certified_name: String,
    uses_tls: bool,
    export: String,
}

/// Why a text is no NBD URI that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}; the forms are nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH, with nbds for TLS", .text.escape_debug())]
pub struct UriError {
    /// The text.
    text: String,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("it has none of the schemes nbd, nbds, nbd+unix and nbds+unix")]
    Scheme,
    #[error("AF_VSOCK is not supported; give a server on TCP or on a Unix socket")]
    Vsock,
    #[error("the host is missing")]
    NoHost,
    #[error("the port '{0}' is none; it is a number from 1 to 65535")]
    Port(String),
    #[error("an address in brackets has no ']'")]
    Bracket,
    #[error(
        "a user is only for TLS with pre-shared keys, which are not supported; use certificates"
    )]
    User,
    #[error(
        "a Unix socket has no host: 3 slashes follow the scheme, and the path of the socket is given by ?socket=PATH"
    )]
    HostOfUnix,
    #[error("the path of the socket is missing: ?socket=PATH")]
    NoSocket,
    #[error("'{0}' is given twice")]
    Twice(String),
    #[error("socket= is for nbd+unix and nbds+unix")]
    SocketOfTcp,
    #[error("tls-hostname= is for nbds and nbds+unix")]
    NameWithoutTls,
    #[error(
        "the parameter '{0}' is unknown; socket= and tls-hostname= are known, and files of TLS are given by tls-ca=, tls-cert= and tls-key= of --disk"
    )]
    Parameter(String),
    #[error("'%' must be followed by two hexadecimal digits")]
    Percent,
    #[error("a name is no UTF-8, or has a zero byte")]
    Text,
    #[error("the name of the export has {0} bytes; at most 4096 are possible")]
    LongExport(usize),
    #[error("it has a fragment ('#...'), which means nothing here; '#' in a name is written %23")]
    Fragment,
}

impl NbdUri {
    /// Whether `text` has the scheme of an NBD URI, so that it is no path.
    pub fn is_meant(text: &[u8]) -> bool {
        SCHEMES.iter().any(|(scheme, ..)| {
            let (begin, rest) = text.split_at_checked(scheme.len()).unwrap_or_default();
            begin.eq_ignore_ascii_case(scheme.as_bytes()) && rest.starts_with(b":")
        })
    }

    /// Where the server listens.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Whether the connection uses TLS.
    pub const fn uses_tls(&self) -> bool {
        self.uses_tls
    }

    /// The name that the server's certificate must have: `tls-hostname=`, or the host, or "localhost" for a Unix socket.
    pub fn certified_name(&self) -> &str {
        &self.certified_name
    }

    /// The name of the export; empty for the server's default one.
    pub fn export(&self) -> &str {
        &self.export
    }
}

/// The text that was parsed.
impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for NbdUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        parse(text).map_err(|why| UriError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<NbdUri, Why> {
    let (scheme, rest) = text.split_once("://").ok_or(Why::Scheme)?;
    let known = SCHEMES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(scheme));
    let &(_, transport, uses_tls) = known.ok_or(Why::Scheme)?;
    if rest.contains('#') {
        return Err(Why::Fragment);
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(Why::User);
    }
    let export = utf8(path)?;
    if export.len() > LONGEST_TEXT {
        return Err(Why::LongExport(export.len()));
    }
    let Query { socket, tls_hostname } = Query::parse(query)?;
    if tls_hostname.is_some() && !uses_tls {
        return Err(Why::NameWithoutTls);
    }
    let server = match transport {
        Transport::Vsock => return Err(Why::Vsock),
        Transport::Unix if !authority.is_empty() => return Err(Why::HostOfUnix),
        Transport::Unix => {
            let path = socket.filter(|path| !path.is_empty()).ok_or(Why::NoSocket)?;
            Server::Unix(OsString::from_vec(path).into())
        }
        Transport::Tcp if socket.is_some() => return Err(Why::SocketOfTcp),
        Transport::Tcp => {
            let (host, port) = host_and_port(authority)?;
            Server::Tcp { host, port }
        }
    };
    let certified_name = tls_hostname.unwrap_or_else(|| match &server {
        Server::Tcp { host, .. } => host.clone(),
        Server::Unix(_) => "localhost".to_owned(),
    });
    Ok(NbdUri { text: text.to_owned(), server, certified_name, uses_tls, export })
}

#[derive(Default)]
struct Query {
    socket: Option<Vec<u8>>,
    tls_hostname: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Why> {
        let mut query = Self::default();
        for parameter in text.split(['&', ';']).filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let is_twice = match key {
                "socket" => query.socket.replace(bytes(value)?).is_some(),
                "tls-hostname" => query.tls_hostname.replace(utf8(value)?).is_some(),
                other => return Err(Why::Parameter(other.escape_debug().to_string())),
            };
            if is_twice {
                return Err(Why::Twice(key.to_owned()));
            }
        }
        match &query.socket {
            Some(path) if path.contains(&0) => Err(Why::Text),
            _ => Ok(query),
        }
    }
}

fn host_and_port(authority: &str) -> Result<(String, u16), Why> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(Why::Bracket)?;
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return Err(Why::Port(after.escape_debug().to_string())),
            }
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let host = utf8(host)?;
    if host.is_empty() {
        return Err(Why::NoHost);
    }
    if port.is_empty() {
        return Ok((host, PORT));
    }
    let number = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    Ok((host, number.ok_or_else(|| Why::Port(port.escape_debug().to_string()))?))
}

/// Decodes `%xx`.
fn bytes(text: &str) -> Result<Vec<u8>, Why> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = digit().zip(digit()).ok_or(Why::Percent)?;
        decoded.push(u8::try_from(high << 4 | low).map_err(|_| Why::Percent)?);
    }
    Ok(decoded)
}

fn utf8(text: &str) -> Result<String, Why> {
    let text = String::from_utf8(bytes(text)?).map_err(|_| Why::Text)?;
    if text.contains('\0') { Err(Why::Text) } else { Ok(text) }
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
