//! Where clients connect: a debugger, or a reader of metrics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port of this host.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Parses `PORT`, `:PORT`, `HOST:PORT` with a numeric host or localhost, or `unix:PATH`. Without a host it is
    /// 127.0.0.1.
    ///
    /// # Errors
    ///
    /// What to give instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("the path is missing; give unix:PATH".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'));
        let with_port = port.unwrap_or(text).parse().map(|port| SocketAddr::new(local, port));
        let address = with_port.ok().or_else(|| text.parse().ok()).map(Self::Tcp);
        address.ok_or_else(|| {
            "give a port, such as 1234, an address with a port, such as 127.0.0.1:1234, or unix:PATH"
                .to_owned()
        })
    }
}

/// As gdb's `target remote` takes it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_host_only() {
        for text in ["1234", ":1234", "localhost:1234", "127.0.0.1:1234"] {
            assert_eq!(ListenAddress::parse(text).unwrap().to_string(), "127.0.0.1:1234", "{text}");
        }
        assert_eq!(ListenAddress::parse("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(ListenAddress::parse("unix:a b").unwrap(), ListenAddress::Unix("a b".into()));
        for text in ["", ":", "unix:", "tcp:1", "70000", "/tmp/gdb", "host:1"] {
            assert!(ListenAddress::parse(text).is_err(), "{text}");
        }
    }
}
