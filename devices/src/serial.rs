//! The serial console.
