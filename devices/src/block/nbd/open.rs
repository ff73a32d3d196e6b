//! How connections are made: address, TLS, handshake, and what makes an export one that cannot be used.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};

use super::connection::Connection;
use super::handshake::{self, Export, HandshakeError};
use super::stream::{self, Patience, Patient, Stream};
use super::tls::{self, TlsError, TlsFiles};
use super::uri::NbdUri;
use super::wire::export_flag;

/// The longest time of one attempt to connect, with all its steps.
pub(super) const ATTEMPT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });
/// The most connections to one export.
const MOST_CONNECTIONS: u16 = 16;

/// A disk on an NBD server, as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdOptions {
    /// The export.
    pub uri: NbdUri,
    /// The number of connections, 1 to 16.
    pub connections: u16,
    /// How long requests wait for a lost server; zero to fail them at once.
    pub reconnect: Duration,
    /// For `nbds`.
    pub tls: TlsFiles,
    /// Whether the export is only read.
    pub read_only: bool,
}

impl NbdOptions {
    /// One connection; requests wait for 30 s.
    pub fn new(uri: NbdUri) -> Self {
        let (reconnect, tls) = (Duration::from_secs(30), TlsFiles::none());
        Self { uri, connections: 1, reconnect, tls, read_only: false }
    }
}

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{uri}: {why}")]
pub struct NbdError {
    uri: Box<NbdUri>,
    why: Box<OpenError>,
}

/// The same, without its name.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("cannot connect: {}", connecting(.0))]
    Connect(io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("{0}")]
    Tls(TlsError),
    #[error("TLS: {}", handshake::transport(.0))]
    TlsHandshake(io::Error),
    #[error("the export is read-only; give readonly=on, or snapshot=on for a guest that writes")]
    ReadOnly,
    #[error("connections={0}: give a number from 1 to {MOST_CONNECTIONS}")]
    Connections(u16),
    #[error(
        "connections={0}: the server does not say that several connections see the same data (no NBD_FLAG_CAN_MULTI_CONN); leave it out"
    )]
    NoMultiConn(u16),
    #[error(
        "the server describes another export than before: {was} bytes were there, and now {is}"
    )]
    Shrunk { was: u64, is: u64 },
    #[error("the server describes another export than before: {0}")]
    Changed(&'static str),
    #[error("the host does not provide what a connection needs: {0}")]
    Host(io::Error),
}

fn connecting(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
        io::ErrorKind::ConnectionRefused => {
            format!("{error}; is the server running, and is this its port or socket?")
        }
        io::ErrorKind::NotFound => {
            format!("{error}; is the server running, and is this its socket?")
        }
        _ => error.to_string(),
    }
}

/// What is needed to connect again.
pub(super) struct Target {
    pub(super) options: NbdOptions,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl Target {
    /// Checks the options and reads the files.
    pub(super) fn new(options: NbdOptions) -> Result<Self, NbdError> {
        let uri = options.uri.clone();
        let fail = |why| NbdError { uri: Box::new(uri.clone()), why: Box::new(why) };
        if !(1..=MOST_CONNECTIONS).contains(&options.connections) {
            return Err(fail(OpenError::Connections(options.connections)));
        }
        let config = match options.uri.uses_tls() {
            true => Some(options.tls.config().map_err(|why| fail(OpenError::Tls(why)))?),
            false if options.tls == TlsFiles::none() => None,
            false => return Err(fail(OpenError::Tls(TlsError::NotUsed))),
        };
        Ok(Self { options, tls: config })
    }

    /// The error with its name.
    pub(super) fn error(&self, why: OpenError) -> NbdError {
        NbdError { uri: Box::new(self.options.uri.clone()), why: Box::new(why) }
    }

    /// Makes all connections. `earlier` is the export as it was before.
    pub(super) fn connect(
        &self,
        limit: Duration,
        is_over: &dyn Fn() -> bool,
        earlier: Option<&Export>,
    ) -> Result<(Vec<Connection>, Export), OpenError> {
        let patience = Patience { until: Instant::now() + limit, is_over };
        let (first, export) = self.connect_once(&patience)?;
        self.check(&export, earlier)?;
        let mut connections = vec![first];
        for _ in 1..self.options.connections {
            let (another, same) = self.connect_once(&patience)?;
            if same != export {
                return Err(OpenError::Changed("its connections differ"));
            }
            connections.push(another);
        }
        Ok((connections, export))
    }

    fn check(&self, export: &Export, earlier: Option<&Export>) -> Result<(), OpenError> {
        let connections = self.options.connections;
        if export.has(export_flag::READ_ONLY) && !self.options.read_only {
            return Err(OpenError::ReadOnly);
        }
        if connections > 1 && !export.has(export_flag::CAN_MULTI_CONN) {
            return Err(OpenError::NoMultiConn(connections));
        }
        let Some(earlier) = earlier else { return Ok(()) };
        if export.size < earlier.size {
            return Err(OpenError::Shrunk { was: earlier.size, is: export.size });
        }
        // Requests that wait were planned for them.
        let commands = export_flag::SEND_FLUSH
            | export_flag::SEND_FUA
            | export_flag::SEND_TRIM
            | export_flag::SEND_WRITE_ZEROES;
        if earlier.flags & commands & !export.flags != 0 {
            return Err(OpenError::Changed("it has fewer commands"));
        }
        if export.minimum != earlier.minimum {
            return Err(OpenError::Changed("its minimum block size is another one"));
        }
        Ok(())
    }

    fn connect_once(&self, patience: &Patience<'_>) -> Result<(Connection, Export), OpenError> {
        let uri = &self.options.uri;
        let socket = stream::connect(uri.server(), patience).map_err(OpenError::Connect)?;
        let mut plain = Patient { socket: &socket, patience };
        handshake::greet(&mut plain)?;
        let Some(config) = &self.tls else {
            let export = handshake::go(&mut plain, uri.export())?;
            return Ok((Connection::new(Stream::new(socket, None)), export));
        };
        handshake::start_tls(&mut plain)?;
        let name = tls::name(uri.certified_name()).map_err(OpenError::Tls)?;
        let mut session = ClientConnection::new(config.clone(), name)
            .map_err(|error| OpenError::TlsHandshake(io::Error::other(error)))?;
        while session.is_handshaking() {
            session.complete_io(&mut plain).map_err(OpenError::TlsHandshake)?;
        }
        let export =
            handshake::go(&mut rustls::Stream::new(&mut session, &mut plain), uri.export())?;
        Ok((Connection::new(Stream::new(socket, Some(session))), export))
    }
}
