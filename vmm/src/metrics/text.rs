//! The metrics of a machine as text.

use std::fmt;
use std::sync::Arc;

use cafevm_devices::block::{Disk, DiskStats, ErrorKind, Histogram, OperationKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::machine::devices::Devices;
use crate::vcpu::exits::ExitCounters;

/// Writes the metrics of a machine.
pub(crate) struct Exporter(Registry);

impl Exporter {
    /// The type of the text.
    pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

    /// For a machine with these devices, and the exits of each vCPU.
    pub(crate) fn new(devices: Devices, exits: Vec<Arc<ExitCounters>>) -> Self {
        let mut registry = Registry::with_prefix("cafevm");
        registry.register_collector(Box::new(Machine { devices, exits }));
        Self(registry)
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // A write into a string does not fail.
        let _written = prometheus_text::encode(&mut text, &self.0);
        text
    }
}

struct Machine {
    devices: Devices,
    exits: Vec<Arc<ExitCounters>>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

/// A disk at one moment.
struct Measured {
    name: String,
    id: String,
    bus: &'static str,
    disk: Disk,
    stats: DiskStats,
}

impl Machine {
    fn disks(&self) -> Vec<Measured> {
        let measured = |name: &str, id: &str, bus, disk: &Disk| Measured {
            name: name.to_owned(),
            id: id.to_owned(),
            bus,
            disk: disk.clone(),
            stats: disk.stats(),
        };
        let virtio = self.devices.disks.iter().map(|disk| {
            let blk = &disk.blk;
            measured(blk.name(), blk.id(), "virtio", blk.disk())
        });
        let svirtb = self.devices.svirtb.iter();
        virtio.chain(svirtb.map(|svirtb| measured("svirtb", "", "svirtb", &svirtb.disk))).collect()
    }
}

impl Collector for Machine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let version = [("version", env!("CAFEVM_VERSION"))];
        let mut info =
            encoder.encode_descriptor("build", "The version of cafevm", None, MetricType::Info)?;
        info.encode_info(&version)?;
        encode_disks(&mut encoder, &self.disks())?;
        let help = "Exits from the guest, by vCPU and kind";
        let mut family =
            encoder.encode_descriptor("vcpu_exits", help, None, MetricType::Counter)?;
        for (vcpu, exits) in self.exits.iter().enumerate() {
            let vcpu = vcpu.to_string();
            for (kind, count) in exits.get().by_kind() {
                counter(&mut family, &[("vcpu", &*vcpu), ("exit", &*label(kind))], count)?;
            }
        }
        Ok(())
    }
}

fn encode_disks(encoder: &mut DescriptorEncoder<'_>, disks: &[Measured]) -> fmt::Result {
    let mut family = encoder.encode_descriptor("disk", "What a disk is", None, MetricType::Info)?;
    for Measured { name, id, bus, disk, .. } in disks {
        let info = disk.info();
        family.encode_info(&[
            ("disk", &**name),
            ("id", id),
            ("bus", bus),
            ("path", disk.name()),
            ("format", info.format),
            ("engine", info.engine),
        ])?;
    }
    let gauge = |encoder: &mut DescriptorEncoder<'_>, name, help, value: fn(&Measured) -> u64| {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for disk in disks {
            let labels = [("disk", &*disk.name)];
            ConstGauge::new(value(disk)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    };
    gauge(encoder, "disk_size_bytes", "The size of the disk", |disk| disk.disk.size())?;
    gauge(encoder, "disk_requests_in_flight", "Requests that the host has not finished", |disk| {
        disk.stats.in_flight as u64
    })?;

    gauge(
        encoder,
        "disk_requests_delayed",
        "Requests that wait for the limits of the disk",
        |disk| disk.stats.delayed as u64,
    )?;

    let help = "Finished requests of the guest, failed ones among them";
    let mut family = encoder.encode_descriptor("disk_requests", help, None, MetricType::Counter)?;
    each_operation(disks, |labels, _, operation| counter(&mut family, labels, operation.requests))?;
    let help = "Bytes of the disk that the guest read, wrote, discarded or zeroed";
    let mut family = encoder.encode_descriptor("disk_bytes", help, None, MetricType::Counter)?;
    each_operation(disks, |labels, kind, operation| match kind {
        OperationKind::Flush => Ok(()),
        _ => counter(&mut family, labels, operation.bytes),
    })?;
    let help = "Failed requests of the guest; flush: data may not be on stable storage";
    let mut family = encoder.encode_descriptor("disk_errors", help, None, MetricType::Counter)?;
    for Measured { name, stats, .. } in disks {
        for (kind, count) in ErrorKind::ALL.into_iter().zip(stats.errors) {
            let error = label(kind.name());
            counter(&mut family, &[("disk", &**name), ("error", &*error)], count)?;
        }
    }
    let (name, help) = (
        "disk_request_duration_seconds",
        "How long requests took, from the moment they were taken to their answer",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    each_operation(disks, |labels, _, operation| match &operation.latency {
        Some(latency) => histogram(family.encode_family(labels)?, latency),
        None => Ok(()),
    })
}

/// Calls `encode` for each operation of each disk, with its labels.
fn each_operation(
    disks: &[Measured],
    mut encode: impl FnMut(
        &[(&str, &str); 2],
        OperationKind,
        &cafevm_devices::block::OperationStats,
    ) -> fmt::Result,
) -> fmt::Result {
    for Measured { name, stats, .. } in disks {
        for (kind, operation) in OperationKind::ALL.into_iter().zip(&stats.operations) {
            let label = label(kind.name());
            encode(&[("disk", &**name), ("operation", &*label)], kind, operation)?;
        }
    }
    Ok(())
}

fn counter(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    count: u64,
) -> fmt::Result {
    ConstCounter::new(count).encode(family.encode_family(labels)?)
}

#[expect(clippy::cast_precision_loss, reason = "more than 100 days of nanoseconds")]
fn histogram(mut encoder: MetricEncoder<'_>, latency: &Histogram) -> fmt::Result {
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let bound = |bucket| Histogram::bound(bucket).map_or(f64::INFINITY, seconds);
    let buckets: Vec<_> =
        latency.buckets.iter().enumerate().map(|(n, count)| (bound(n), *count)).collect();
    encoder.encode_histogram::<NoLabelSet>(seconds(latency.sum), latency.count(), &buckets, None)
}

/// A name as the value of a label.
fn label(name: &str) -> String {
    name.replace([' ', '-'], "_")
}
