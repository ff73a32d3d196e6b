//! Images that are damaged, or that nobody should trust.
