use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> NbdUri {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn tcp(host: &str, port: u16) -> Server {
    Server::Tcp { host: host.to_owned(), port }
}

#[test]
fn the_forms_of_the_specification() {
    for (text, server, export, uses_tls, name) in [
        ("nbd://example.com", tcp("example.com", 10809), "", false, "example.com"),
        ("nbd://example.com/", tcp("example.com", 10809), "", false, "example.com"),
        ("nbd://example.com:10810/disk", tcp("example.com", 10810), "disk", false, "example.com"),
        ("nbds://example.com/disk", tcp("example.com", 10809), "disk", true, "example.com"),
        ("NBD://[::1]:1/a/b", tcp("::1", 1), "a/b", false, "::1"),
        ("nbd://[fe80::1%25eth0]/", tcp("fe80::1%eth0", 10809), "", false, "fe80::1%eth0"),
        ("nbd://host//abs", tcp("host", 10809), "/abs", false, "host"),
        ("nbd://host/a%20b%2c%C3%BC", tcp("host", 10809), "a b,ü", false, "host"),
        ("nbd+unix:///?socket=/tmp/s", Server::Unix("/tmp/s".into()), "", false, "localhost"),
        ("nbd+unix:///e%3F?socket=s%20s", Server::Unix("s s".into()), "e?", false, "localhost"),
        ("nbds+unix:///e?tls-hostname=a.b&socket=/s", Server::Unix("/s".into()), "e", true, "a.b"),
    ] {
        let uri = parsed(text);
        assert_eq!(*uri.server(), server, "{text}");
        assert_eq!((uri.export(), uri.uses_tls()), (export, uses_tls), "{text}");
        assert_eq!((uri.certified_name(), uri.to_string().as_str()), (name, text), "{text}");
        assert!(NbdUri::is_meant(text.as_bytes()));
    }
}

#[test]
fn what_cannot_be_used_is_said() {
    for (text, says) in [
        ("/tmp/disk.img", "none of the schemes"),
        ("nbd:host:10809", "none of the schemes"),
        ("http://host/", "none of the schemes"),
        ("nbd+ssh://host/", "none of the schemes"),
        ("nbd+vsock://2/", "AF_VSOCK is not supported"),
        ("nbd:///disk", "the host is missing"),
        ("nbd://:1/disk", "the host is missing"),
        ("nbd://host:0/", "the port '0' is none"),
        ("nbd://host:65536/", "the port '65536' is none"),
        ("nbd://host:+1/", "the port '+1' is none"),
        ("nbd://[::1/", "an address in brackets has no ']'"),
        ("nbd://[::1]1/", "the port '1' is none"),
        ("nbds://user@host/", "a user is only for TLS with pre-shared keys"),
        ("nbd+unix://tmp/s?socket=/s", "a Unix socket has no host"),
        ("nbd+unix:///disk", "the path of the socket is missing"),
        ("nbd+unix:///?socket=", "the path of the socket is missing"),
        ("nbd+unix:///?socket=a&socket=b", "'socket' is given twice"),
        ("nbd+unix:///?socket=a%00", "a zero byte"),
        ("nbd://host/?socket=/s", "socket= is for nbd+unix"),
        ("nbd://host/?tls-hostname=a", "tls-hostname= is for nbds"),
        ("nbds://host/?tls-psk-file=/x", "the parameter 'tls-psk-file' is unknown"),
        ("nbd://host/a%2", "two hexadecimal digits"),
        ("nbd://host/a%zz", "two hexadecimal digits"),
        ("nbd://host/%ff", "no UTF-8"),
        ("nbd://host/a%00b", "a zero byte"),
        ("nbd://host/a#b", "a fragment"),
        (&format!("nbd://host/{}", "x".repeat(4097)), "has 4097 bytes"),
    ] {
        let error = text.parse::<NbdUri>().unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("nbd://HOST[:PORT]/EXPORT"), "{error}");
    }
}

#[test]
fn a_path_is_no_uri() {
    for path in ["nbd", "nbd.img", "/nbd:", "nbdx://host", "", "./nbd://x"] {
        assert!(!NbdUri::is_meant(path.as_bytes()), "{path}");
    }
    // A form of QEMU that is no URI is meant as one.
    assert!(NbdUri::is_meant(b"nbd:localhost:10809"));
}

proptest! {
    #[test]
    fn any_export_is_found_again(name in "\\PC{0,40}", port in 1..=u16::MAX) {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let uri = parsed(&format!("nbd://h:{port}/{encoded}"));
        prop_assert_eq!(uri.export(), name);
        prop_assert_eq!(uri.server(), &tcp("h", port));
    }

    #[test]
    fn no_text_is_a_panic(text in "(nbds?(\\+unix)?://)?\\PC{0,60}") {
        let _parsed = text.parse::<NbdUri>();
    }
}
