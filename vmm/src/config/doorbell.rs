//! Which thread serves the doorbells of a virtio disk.

use std::fmt;

/// Which thread serves the doorbells of a virtio disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doorbell {
    /// The vCPU that rings: one exit, and no other thread is woken. It waits while the engine moves bytes.
    #[default]
    Vcpu,
    /// The I/O thread, which KVM wakes: the vCPU continues at once.
    Thread,
    /// A thread of the disk, which KVM wakes. It then looks at the queues for a short time without doorbells, so that a
    /// busy guest does not ring at all. It needs a CPU of the host to itself.
    Spin,
    /// [`Doorbell::Thread`] where a request can keep the vCPU waiting and the host has a CPU for the thread, else
    /// [`Doorbell::Vcpu`].
    Auto,
}

impl Doorbell {
    /// All values, by their names on the command line.
    pub const ALL: [(&str, Self); 4] = [
        ("vcpu", Self::Vcpu),
        ("thread", Self::Thread),
        ("spin", Self::Spin),
        ("auto", Self::Auto),
    ];

    /// What [`Doorbell::Auto`] means: `waits` is whether a request can keep the thread that serves it waiting; the host
    /// has `cpus` CPUs, the machine `vcpus`.
    #[must_use]
    pub(crate) fn resolved(self, waits: bool, cpus: usize, vcpus: u32) -> Self {
        let has_room = u32::try_from(cpus).unwrap_or(u32::MAX) > vcpus;
        match self {
            Self::Auto if waits && has_room => Self::Thread,
            Self::Auto => Self::Vcpu,
            chosen => chosen,
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
    fn auto_leaves_the_vcpu_only_where_that_helps() {
        let auto = |waits, cpus, vcpus| Doorbell::Auto.resolved(waits, cpus, vcpus);
        assert_eq!(auto(true, 4, 2), Doorbell::Thread);
        assert_eq!(auto(true, 2, 2), Doorbell::Vcpu);
        assert_eq!(auto(false, 64, 1), Doorbell::Vcpu);
        assert_eq!(Doorbell::Spin.resolved(false, 1, 8), Doorbell::Spin);
    }
}
