//! The example in the documentation of the crate.

use cafevm::exit::Verdict;

use super::Test;

#[allow(unreachable_pub, reason = "it is shown as a part of a program")]
#[path = "../../docs/run.rs"]
mod example;

pub(crate) const TESTS: &[Test] = &[("the_example_in_the_docs_runs", the_example_in_the_docs_runs)];

fn the_example_in_the_docs_runs() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(4096).unwrap();
    let verdict = example::read_sector_0(image.path().to_str().unwrap()).unwrap();
    assert_eq!(verdict, Verdict::PowerOff);
}
