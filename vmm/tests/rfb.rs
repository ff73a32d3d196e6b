//! Replays the fuzzer's corpus for the VNC server.

use std::fs;
use std::path::Path;

#[path = "rfb/body.rs"]
mod body;
#[path = "rfb/client.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic; others use more of it"
)]
mod client;

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/rfb");
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        body::check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} scripts are no corpus");
}
