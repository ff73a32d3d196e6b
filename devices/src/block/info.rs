//! What a storage reports of itself, for people: the log at start, and `status` on the control socket.

/// The format of a storage, what moves its bytes, and what it is layered on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageInfo {
    /// The format of the image, as `format=` names it: "raw", "qcow2".
    pub format: &'static str,
    /// What moves the bytes, as `engine=` names it: "sync", "uring", "nbd".
    pub engine: &'static str,
    /// The images that are read where the disk's own image has no data, nearest first.
    pub backing: Vec<String>,
    /// How often a lost connection was established again; none for a storage without a connection.
    pub reconnects: Option<u64>,
}

impl StorageInfo {
    /// A raw image without backing, whose bytes `engine` moves.
    pub const fn raw(engine: &'static str) -> Self {
        Self { format: "raw", engine, backing: Vec::new(), reconnects: None }
    }
}
