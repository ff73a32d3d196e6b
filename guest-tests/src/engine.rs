//! What moves the bytes of the guests' disks: cafevm's own engine, or one that makes it harder.
//!
//! `CAFEVM_TEST_ENGINE=late` gives every disk of every test storage that finishes its requests on another thread, later
//! and out of order.

use std::env;
use std::time::Duration;

use cafevm::config::{VmConfig, WrapStorage};
use cafevm_devices::testing::LateStorage;

/// The variable that names the engine.
pub const VARIABLE: &str = "CAFEVM_TEST_ENGINE";
/// How long requests pile up before some of them are done: less than a guest that is killed lives.
const DELAY: Duration = Duration::from_micros(100);

/// Gives the disks the engine that the environment asks for.
///
/// # Errors
///
/// Where there is no such engine: the text says which there are.
pub fn apply(config: &mut VmConfig) -> Result<(), String> {
    let name = env::var_os(VARIABLE).unwrap_or_default();
    let storage = named(&name.to_string_lossy())?;
    for disk in &mut config.disks {
        disk.storage.clone_from(&storage);
    }
    Ok(())
}

/// Whether requests are finished after their doorbell: then a reset may come first, and a batch may have several
/// interrupts.
pub fn is_late() -> bool {
    env::var_os(VARIABLE).is_some_and(|name| name == "late")
}

fn named(name: &str) -> Result<Option<WrapStorage>, String> {
    match name {
        "" | "sync" => Ok(None),
        "late" => Ok(Some(WrapStorage::new(|inner| Box::new(LateStorage::new(inner, DELAY))))),
        other => Err(format!("{VARIABLE}={other}: the engines are sync and late")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_has_a_name() {
        assert_eq!(named("sync"), Ok(None));
        assert!(named("late").unwrap().is_some());
        assert!(named("early").is_err());
    }
}
