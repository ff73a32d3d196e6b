//! Moves between buffers and memory of the host, for engines that do not use preadv and pwritev.

use vm_memory::VolatileSlice;

use super::Buffers;

impl Buffers {
    /// Copies `source`, which others may change at the same time, into the buffers after their first `skip` bytes.
    /// Returns the number of bytes: fewer if the buffers end before it does.
    pub(crate) fn copy_from_volatile(&self, skip: u64, source: VolatileSlice<'_>) -> u64 {
        let mut rest = source;
        let mut done = 0;
        for slice in self.slices(skip, source.len() as u64) {
            rest.copy_to_volatile_slice(slice);
            done += slice.len() as u64;
            // The slices are together no longer than the source.
            let Ok(left) = rest.offset(slice.len()) else { break };
            rest = left;
        }
        done
    }
}
