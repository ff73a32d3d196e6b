//! A VNC client and the control socket at a machine with a screen, a keyboard and a tablet. The guest is
//! `resources/guests/test-guests/src/bin/rcore/typed.rs`: it shows a picture, and prints each event.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use cafevm_guest_tests::{Failed, Outcome, ensure, tests};

#[path = "../../../vmm/tests/rfb/client.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic; others use more of it"
)]
mod client;
#[allow(dead_code, reason = "the other test uses more of it")]
mod scene;

use client::Client;
use scene::{Machine, PATIENCE, events, picture, with_user};

tests! { a_client_sees_and_types, a_text_of_a_thousand_keys_is_typed_whole }

/// A client of the VNC server.
struct Viewer {
    stream: UnixStream,
    client: Client,
}

impl Viewer {
    fn connect(machine: &Machine) -> Result<Self, Failed> {
        let stream = UnixStream::connect(&machine.vnc)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut viewer = Self { stream, client: Client::new() };
        viewer.stream.write_all(Client::HELLO)?;
        viewer.stream.write_all(&Client::encodings(&[16]))?;
        viewer.until(|client| client.size != (0, 0))?;
        Ok(viewer)
    }

    fn until(&mut self, done: impl Fn(&Client) -> bool) -> Outcome {
        let mut bytes = [0; 4096];
        while !done(&self.client) {
            let count = self.stream.read(&mut bytes)?;
            ensure!(count > 0, "the server has closed the connection");
            self.client.receive(bytes.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    fn key(&mut self, down: bool, keysym: u32) -> Outcome {
        let mut message = vec![4, down.into(), 0, 0];
        message.extend(keysym.to_be_bytes());
        Ok(self.stream.write_all(&message)?)
    }
}

fn a_client_sees_and_types() -> Outcome {
    let run = with_user(|machine| {
        let mut viewer = Viewer::connect(machine)?;
        let request = viewer.client.request(false);
        viewer.stream.write_all(&request)?;
        viewer.until(|client| client.updates > 0 && client.is_complete())?;
        ensure!(viewer.client.pixels == picture(), "the client sees another picture");
        ensure!(machine.screenshot()? == picture(), "the screenshot is another picture");
        for (down, keysym) in [(true, 0x48), (false, 0x48), (true, 0xffe3), (false, 0xffe3)] {
            viewer.key(down, keysym)?;
        }
        viewer.stream.write_all(&[5, 1, 0, 160, 0, 199, 5, 0, 0, 160, 0, 199])?;
        // An answer comes after what was sent before it, so the guest has all of this before the messages below.
        viewer.stream.write_all(&Client::encodings(&[16, -258]))?;
        viewer.until(|client| client.extended_key)?;
        machine.order(r#"{"pointer":{"x":319,"y":0,"buttons":["right"],"wheel":-2}}"#)?;
        machine.order(r#"{"pointer":{"buttons":[]}}"#)?;
        machine.order(r#"{"type":"a!\n"}"#)?;
        machine.order(r#"{"keys":["ctrl","alt","delete"]}"#)?;
        machine.end()
    })?;
    let seen = events(&run)?;
    let keys = "42 1, 35 1, 42 0, 35 0, 29 1, 29 0, 30 1, 30 0, 42 1, 2 1, 2 0, 42 0, 28 1, 28 0, 29 1, 56 1, 111 1, 111 0, \
                56 0, 29 0, 1 1, 1 0";
    let wanted = keys.split(", ").map(|key| format!("key {key}"));
    // The buttons without a motion are keys, too.
    let is_key = |line: &&String| line.starts_with("key") && !line.starts_with("key 273");
    ensure!(seen.iter().filter(is_key).cloned().eq(wanted), "the keys: {run}");
    let pointer = [
        "abs 0 16435 abs 1 32767 key 272 1",
        "abs 0 16435 abs 1 32767 key 272 0",
        "abs 0 32767 abs 1 0 key 273 1 rel 8 -2",
    ];
    ensure!(seen.iter().filter(|line| line.starts_with("abs")).eq(pointer), "the pointer: {run}");
    Ok(())
}

/// More than the device keeps for a driver that is slow.
fn a_text_of_a_thousand_keys_is_typed_whole() -> Outcome {
    let run = with_user(|machine| {
        let text = "the quick brown fox ".repeat(50);
        machine.order(&format!(r#"{{"type":"{text}"}}"#))?;
        machine.end()
    })?;
    let seen = events(&run)?;
    ensure!(seen.len() == 2 * 1000 + 2, "{} events: {run}", seen.len());
    let key = |n: usize| seen.get(n).map(String::as_str);
    ensure!((key(0), key(1999)) == (Some("key 20 1"), Some("key 57 0")), "{run}");
    Ok(())
}
