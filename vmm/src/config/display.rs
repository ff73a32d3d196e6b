//! Where VNC clients connect.

use crate::config::address::ListenAddress;

/// Parses `vnc=` and an address, as [`ListenAddress::parse`] does. Port 0 is any that is free.
///
/// # Errors
///
/// What to give instead.
pub fn parse(text: &str) -> Result<ListenAddress, String> {
    let Some(address) = text.strip_prefix("vnc=") else {
        return Err("give vnc=HOST:PORT, such as vnc=127.0.0.1:5900, or vnc=unix:PATH".to_owned());
    };
    let address = ListenAddress::parse(address)?;
    check(&address).map(|()| address)
}

/// Checks that only this host can connect: the server has no password and no encryption.
///
/// # Errors
///
/// What to give instead.
pub(super) fn check(address: &ListenAddress) -> Result<(), String> {
    let ListenAddress::Tcp(address) = address else { return Ok(()) };
    let port = address.port();
    match port {
        // Viewers know port 5900 as display 0.
        1..100 => {
            Err(format!("{port} is a port here; VNC's display {port} is port {}", 5900 + port))
        }
        _ if !address.ip().is_loopback() => Err(format!(
            "{} is no loopback address, and this server has no password and no encryption; give 127.0.0.1:{port}, and on \
             the other host 'ssh -L {port}:127.0.0.1:{port} THIS_HOST'",
            address.ip()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_can_connect() {
        for text in ["5900", ":5900", "localhost:5900", "127.0.0.1:5900"] {
            let address = parse(&format!("vnc={text}")).unwrap();
            assert_eq!(address.to_string(), "127.0.0.1:5900", "{text}");
        }
        for text in ["[::1]:5901", "127.7.7.7:5900", "127.0.0.1:0"] {
            assert_eq!(parse(&format!("vnc={text}")).unwrap().to_string(), text);
        }
        assert_eq!(parse("vnc=unix:a b").unwrap(), ListenAddress::Unix("a b".into()));
        for (text, says) in [
            ("", "give vnc="),
            ("5900", "give vnc="),
            ("gtk", "give vnc="),
            ("vnc=", "give a port"),
            ("vnc=host:5900", "give a port"),
            ("vnc=unix:", "the path is missing"),
            ("vnc=:1", "display 1 is port 5901"),
            ("vnc=0.0.0.0:5900", "ssh -L 5900:127.0.0.1:5900"),
            ("vnc=192.168.0.1:5900", "no password and no encryption"),
            ("vnc=[::]:5900", "is no loopback address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
