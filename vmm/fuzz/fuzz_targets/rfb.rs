//! A VNC client that sends anything to the server.
#![no_main]

#[path = "../../tests/rfb/body.rs"]
mod body;
#[path = "../../tests/rfb/client.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod client;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
