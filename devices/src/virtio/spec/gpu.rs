//! The GPU device (5.7).
