//! Metrics for Prometheus: `--metrics` serves them over HTTP, at `GET /metrics`.
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `cafevm_build_info` | version | 1 |
//! | `cafevm_disk_info` | disk, id, bus, path, format, engine | 1 |
//! | `cafevm_disk_size_bytes` | disk | the size |
//! | `cafevm_disk_requests_total` | disk, operation | finished requests, failed ones among them |
//! | `cafevm_disk_bytes_total` | disk, operation | bytes read, written, discarded, zeroed |
//! | `cafevm_disk_errors_total` | disk, error | failed requests |
//! | `cafevm_disk_request_duration_seconds` | disk, operation | a histogram: from the moment a request is taken to its answer |
//! | `cafevm_disk_requests_in_flight` | disk | requests that the host has not finished |
//! | `cafevm_disk_requests_delayed` | disk | requests that wait for the limits of the disk |
//! | `cafevm_vcpu_exits_total` | vcpu, exit | exits from the guest |
//!
//! A disk is named as in the log: `virtio0`, `virtio1`, ..., `svirtb`. The main thread serves them, as it serves the
//! control socket: no client can block the machine.
//!
//! | question | file |
//! |---|---|
//! | What is measured, in which text? | `text.rs` |
//! | How is a connection served? | `connection.rs` |
//! | How are connections accepted and watched? | `socket.rs` |

mod connection;
mod socket;
mod text;

pub(crate) use socket::MetricsSocket;
pub(crate) use text::Exporter;

use tracing::info;

use crate::config::address::ListenAddress;
use crate::error::HostError;
use crate::runtime::listener::Listener;

/// Listens at `address`.
///
/// # Errors
///
/// If the host refuses.
pub(crate) fn listen(address: &ListenAddress) -> Result<Listener, HostError> {
    let listener = Listener::at(address)
        .map_err(|source| HostError::Metrics { address: address.to_string(), source })?;
    info!("metrics at {}", listener.address(address));
    Ok(listener)
}
