//! The threads that look after the connections to NBD servers.

use std::sync::Arc;
use std::thread::JoinHandle;

use cafevm_devices::block::nbd::NbdLink;

use crate::error::HostError;
use crate::threads::ending::Ending;
use crate::threads::roll::Roll;

/// Starts a thread for `link`, which ends with the machine. Returns its name, too.
///
/// # Errors
///
/// If the host does not provide a thread.
pub(crate) fn spawn(
    link: NbdLink,
    ending: &Arc<Ending>,
    roll: &Arc<Roll>,
) -> Result<(String, JoinHandle<Result<(), HostError>>), HostError> {
    let name = format!("the connection to {}", link.uri());
    let present = roll.enter(name.clone(), ending);
    let run = move || {
        // Dropped last.
        let _present = present;
        link.run();
        Ok(())
    };
    let thread = std::thread::Builder::new().name("nbd".to_owned()).spawn(run);
    Ok((name, thread.map_err(HostError::os("start a thread for an NBD server"))?))
}
