//! For scripts that boot the guest `numbered` (`guest-tests/ceph/run`):
//!
//! ```text
//! numbered guest FILE               writes the guest's ELF file
//! numbered image LAST SECTORS       writes to standard output the disk whose last number is LAST
//! ```

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use cafevm_guest_tests::numbered::{newest, sector_with};
use cafevm_resources::test_guests::NUMBERED;

const USAGE: &str = "numbered guest FILE | numbered image LAST SECTORS";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("numbered {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match *words {
        ["guest", file] => Ok(fs::write(file, NUMBERED)?),
        ["image", last, sectors] => {
            let (last, sectors) = (last.parse()?, sectors.parse()?);
            let mut out = io::BufWriter::new(io::stdout().lock());
            for sector in 0..sectors {
                out.write_all(&sector_with(newest(last, sector, sectors)))?;
            }
            Ok(out.flush()?)
        }
        _ => Err(USAGE.into()),
    }
}
