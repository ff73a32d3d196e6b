//! Boots a guest, and returns what came of it as a value.
//!
//! ```text
//!  Scratch ──▶ Image (a file, and what it must hold) ──▶ Guest ──▶ cafevm::run ──▶ Run (serial text, verdict, exits)
//!                                └───────── afterwards ── Image::holds ◀──────────────┘
//! ```
//!
//! A test is a function that gives an [`Outcome`]; [`tests!`] makes a file's main function of several. Tests of one
//! file run side by side: each has its own directory, images and machine, and nothing else is shared.
//!
//! # Which file do I open?
//!
//! | question | file |
//! |---|---|
//! | How is a guest booted, and what is known afterwards? | `guest.rs` |
//! | What does an image hold, and where does it differ from what it must? | `image.rs` |
//! | What must the disk of the guest `numbered` hold, whose monitor or server is killed? | `numbered.rs` |
//! | What is on the disk of the guest `mixed`? | `mixed.rs` |
//! | Is a qcow2 image in order, and are two images the same? | `qemu_img.rs` |
//! | How is an NBD server of another project started? | `server.rs` |
//! | How is the program run, as a person runs it? | `process.rs` |
//! | Which engine moves the bytes of the disks? | `engine.rs` |
//! | Which devices does every machine have beside its disks? | `extra.rs` |
//! | What do the benchmarks have in common? | `bench.rs` |
//! | Which tests are passed over on this machine, and why? | `suite.rs` |
//!
//! `tests/NAME.rs` boots the guest program `resources/guests/test-guests/src/bin/NAME`; what that expects of its
//! disks and leaves on them is documented at its top.

pub mod bench;
pub mod engine;
pub mod extra;
pub mod guest;
pub mod image;
pub mod mixed;
pub mod numbered;
pub mod process;
pub mod qemu_img;
pub mod server;
pub mod suite;

pub use guest::{Guest, Run};
pub use image::{Image, SECTOR, SEED, Scratch, difference, pattern, sectors};
pub use libtest_mimic::Failed;

/// What comes of a test: nothing, or why it failed, in text for a person. Any error with a text becomes one by `?`.
pub type Outcome = Result<(), Failed>;

/// Fails with a formatted text.
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::Failed::from(format!($($text)*))) };
}

/// [`fail!`], where the condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => { if !$condition { $crate::fail!($($text)*) } };
}
