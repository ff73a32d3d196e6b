//! Boots a guest and returns a value.
