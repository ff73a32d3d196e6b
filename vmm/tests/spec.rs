//! Replays the fuzzer's corpus for the values of flags.

use std::fs;
use std::path::Path;

#[path = "spec/body.rs"]
mod body;

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/spec");
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        body::check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} texts are no corpus");
}
