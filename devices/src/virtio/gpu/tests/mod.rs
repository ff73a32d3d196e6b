//! virtio-gpu from the driver's side.

mod cursor;
mod drive;
mod errors;
mod limits;
mod observed;
mod pictures;
