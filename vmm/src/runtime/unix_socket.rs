//! A listening Unix socket with its file.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// A listening socket; its file is removed with it.
pub(crate) struct Listener {
    path: PathBuf,
    pub(crate) socket: UnixListener,
}

impl Listener {
    /// Listens at `path`, for this user only. Replaces the file of a machine that was killed.
    ///
    /// # Errors
    ///
    /// If another file is there, or the host cannot create a socket.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // The file gets the socket's mode, so that no other user can connect at any moment.
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, 8)?;
            Ok::<_, rustix::io::Errno>(socket)
        };
        Ok(Self { path: path.to_owned(), socket: make()?.into() })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The file may be gone already.
        let _removed = fs::remove_file(&self.path);
    }
}

/// Removes the file of a socket that has no listener.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another machine listens there")),
        },
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
