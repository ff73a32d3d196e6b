//! Devices beside the disks of every machine.
//!
//! `CAFEVM_TEST_EXTRA="--gpu --input keyboard"` gives them to every machine of every test that asks for none itself.

use std::env;
use std::ffi::OsString;

use cafevm::cli::{self, Command, Instead};
use cafevm::config::{OtherDevice, VmConfig};

/// The variable with the flags.
pub const VARIABLE: &str = "CAFEVM_TEST_EXTRA";

/// Adds the devices that the environment asks for.
///
/// # Errors
///
/// If the flags are wrong.
pub fn apply(config: &mut VmConfig) -> Result<(), String> {
    if config.others.is_empty() {
        config.others = devices(&env::var_os(VARIABLE).unwrap_or_default().to_string_lossy())?;
    }
    Ok(())
}

fn devices(flags: &str) -> Result<Vec<OtherDevice>, String> {
    let args = ["cafevm", "run"].into_iter().chain(flags.split_whitespace()).map(OsString::from);
    match cli::parse(args) {
        Ok(cli) => match cli.command {
            Command::Run(args) => Ok(args.others.0),
            other => Err(format!("{VARIABLE}={flags}: {other:?}")),
        },
        Err(Instead::Help(text) | Instead::NoCommand(text) | Instead::Usage(text)) => {
            Err(format!("{VARIABLE}={flags}: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use cafevm_devices::virtio::gpu::GpuOptions;
    use cafevm_devices::virtio::input::InputKind;

    use super::*;

    #[test]
    fn flags_are_those_of_the_program() {
        assert_eq!(devices(""), Ok(vec![]));
        let gpu = OtherDevice::Gpu(GpuOptions::default());
        let keyboard = OtherDevice::Input(InputKind::Keyboard);
        assert_eq!(devices("--gpu --input keyboard"), Ok(vec![gpu, keyboard]));
        assert!(devices("--gpus").unwrap_err().contains("--gpus"));
    }
}
