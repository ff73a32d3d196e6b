use cafevm::boot::KernelSource;
use cafevm::config::{DiskConfig, VmConfig};
use cafevm::console::{Input, Output};
use cafevm::error::Error;
use cafevm::exit::Verdict;
use cafevm::run::{Console, run};

/// Reads the first sector of an image in the built-in shell.
pub fn read_sector_0(image: &str) -> Result<Verdict, Error> {
    let config = VmConfig {
        command_line: "sh=\"read 0; exit\"".to_owned(),
        disks: vec![DiskConfig::new(image)],
        ..VmConfig::new(KernelSource::built_in())
    };
    let console = Console { output: Output::Stdout, input: Input::None, signals: None };
    Ok(run(&config, console)?.verdict)
}
