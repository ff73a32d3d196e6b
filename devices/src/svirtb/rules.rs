//! The rules of svirtb, as they appear in reports. Sections are those of the specification.

use crate::observe::Rule;

pub(super) const ENTRY_IN_RAM: Rule = "svirtb 2.2, every entry of the ring lies in guest memory";
pub(super) const COMMAND: Rule = "svirtb 2.2.1, cmd is 0 or 1";
pub(super) const BUFFER: Rule = "svirtb 2.2.1, addr and size are a buffer in guest memory";
pub(super) const SECTOR: Rule = "svirtb 2.2.1, sector is a sector of the disk";
pub(super) const READ_ONLY: Rule = "svirtb 2.2.1, cmd 1 needs a disk that may be written";
pub(super) const PAST_END: Rule = "svirtb 2.2.1, a write begins on the disk";
pub(super) const STRADDLES: Rule = "svirtb 2.2.1, a write ends on the disk";
pub(super) const REGISTERS: Rule = "svirtb 4, six registers of 32 bits";
pub(super) const TAIL: Rule = "svirtb 2, the driver does not write queue_tail";
pub(super) const CONFIGURATION: Rule = "svirtb 2.1.1, the ring is described in DRIVER_OK";
pub(super) const DOORBELL: Rule = "svirtb 3, no doorbell before READY";
pub(super) const HEAD: Rule = "svirtb 2.2, queue_head is an index of the ring";
pub(super) const AFTER_ERROR: Rule = "svirtb 2.1, after an error the driver writes RESET";
pub(super) const ORDER: Rule = "svirtb 3, the order of initialization";
pub(super) const RING: Rule = "svirtb 2.1.2, READY needs a valid ring";
pub(super) const HOST: Rule = "the host serves the image";
pub(super) const STOPPED: Rule = "a machine being stopped serves no more entries";
