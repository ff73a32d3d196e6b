//! Which thread serves the doorbells of a virtio disk.

use std::fmt;

/// Which thread serves the doorbells of a virtio disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doorbell {
    /// The vCPU that rings: one exit, and no other thread is woken. It waits while the engine moves bytes.
    Vcpu,
    /// The I/O thread, which KVM wakes: the vCPU continues at once.
    Thread,
    /// A thread of the disk, which KVM wakes. It then looks at the queues for a short time without doorbells, so that a
    /// busy guest does not ring at all. It needs a CPU of the host to itself.
    Spin,
    /// The vCPU, which is the fastest where the engine finishes at once or later by itself. A thread of the disk where
    /// engine=auto has no io_uring and so waits.
    #[default]
    Auto,
}

/// The thread that serves the doorbells of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The vCPU that rings.
    Vcpu,
    /// The I/O thread.
    IoThread,
    /// A thread of the disk.
    OwnThread {
        /// Whether it looks at the queues for a while without doorbells.
        spins: bool,
    },
}

impl Doorbell {
    /// All values, by their names on the command line.
    pub const ALL: [(&str, Self); 4] = [
        ("vcpu", Self::Vcpu),
        ("thread", Self::Thread),
        ("spin", Self::Spin),
        ("auto", Self::Auto),
    ];

    /// The thread that serves the doorbells. `waits` is whether the engine should finish later, and cannot.
    #[must_use]
    pub(crate) const fn server(self, waits: bool) -> Server {
        match self {
            Self::Thread => Server::IoThread,
            Self::Spin => Server::OwnThread { spins: true },
            Self::Auto if waits => Server::OwnThread { spins: false },
            Self::Auto | Self::Vcpu => Server::Vcpu,
        }
    }
}

/// Its name on the command line.
impl fmt::Display for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, doorbell)| doorbell == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_leaves_the_vcpu_only_where_an_engine_waits_against_its_nature() {
        assert_eq!(Doorbell::Auto.server(false), Server::Vcpu);
        assert_eq!(Doorbell::Auto.server(true), Server::OwnThread { spins: false });
        assert_eq!(Doorbell::Vcpu.server(true), Server::Vcpu);
        assert_eq!(Doorbell::Thread.server(true), Server::IoThread);
        assert_eq!(Doorbell::Spin.server(false), Server::OwnThread { spins: true });
    }
}
