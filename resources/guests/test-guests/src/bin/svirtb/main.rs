//! svirtb: the handshake, the ring, and every way to break them.
//!
//! Command line: `t=SET` chooses what the host has to set up, `bytes=N` is the length of the image, which holds
//! [`scenario::pattern`] with seed 1.
//!
//! | `t=` | the host's disk | image afterwards |
//! |---|---|---|
//! | `rules` (default) | writable, `entry-size=auto`, at least 64 sectors | see [`data`] |
//! | `readonly` | read-only | untouched |
//! | `packed`, `padded` | `entry-size=28`, `entry-size=32` | untouched |
#![no_std]
#![no_main]

mod data;
mod errors;
mod handshake;
mod machine;
mod strides;

use rt::{command_line, println};
use scenario::Report;

rt::entry!(main);

fn main() -> u32 {
    let mut report = Report::new();
    match command_line::value("t").unwrap_or("rules") {
        "rules" => {
            let Some(bytes) = command_line::number("bytes") else {
                println!(
                    "FAIL rules: bytes=N, the length of the image, is missing on the command line"
                );
                return 1;
            };
            handshake::run(&mut report);
            strides::run(&mut report);
            data::run(&mut report, bytes);
            errors::run(&mut report, bytes);
        }
        "readonly" => errors::run_read_only(&mut report),
        "packed" => strides::run_packed_only(&mut report),
        "padded" => strides::run_padded_only(&mut report),
        other => {
            println!("FAIL {other}: no such set of scenarios");
            return 1;
        }
    }
    report.code()
}
