//! TLS for `nbds`: the files of a user, as rustls takes them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Files in PEM format.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The certificates of the authorities that the server's certificate must come from.
    pub ca: Option<PathBuf>,
    /// The client's certificate, and those between it and its authority.
    pub cert: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No authority is known.
    #[error(
        "tls-ca= is missing: which certificates are trusted? Give the file of your authority, or /etc/ssl/certs/ca-certificates.crt for a public server"
    )]
    NoCa,
    /// Only one of certificate and key.
    #[error("tls-cert= and tls-key= belong together; give both or none")]
    Half,
    /// Files without TLS.
    #[error(
        "tls-ca=, tls-cert= and tls-key= are for nbds and nbds+unix; this connection would not be encrypted"
    )]
    NotUsed,
    /// A file cannot be read.
    #[error("{flag}={}: {source}; give a file in PEM format that may be read", path.display())]
    File {
        /// The key of `--disk`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// A file has nothing that is looked for.
    #[error("{flag}={}: has no certificate in PEM format", path.display())]
    Nothing {
        /// The key of `--disk`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A certificate or key cannot be used.
    #[error("{flag}={}: {why}", path.display())]
    Bad {
        /// The key of `--disk`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: rustls::Error,
    },
    /// The name that the certificate must have is none.
    #[error(
        "'{0}' is no host name or address, so no certificate can have it; give ?tls-hostname=NAME in the URI"
    )]
    Name(String),
    /// The library cannot be used.
    #[error("TLS cannot be used: {0}")]
    Library(rustls::Error),
}

impl TlsFiles {
    /// No files.
    pub const fn none() -> Self {
        Self { ca: None, cert: None, key: None }
    }

    /// Reads the files.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let ca = self.ca.as_deref().ok_or(TlsError::NoCa)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates("tls-ca", ca)? {
            let bad = |why| TlsError::Bad { flag: "tls-ca", path: ca.to_owned(), why };
            roots.add(certificate).map_err(bad)?;
        }
        // Named, so that no other provider is looked for.
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .with_root_certificates(roots);
        let config = match (&self.cert, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates("tls-cert", cert)?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("tls-key", key, error))?;
                let bad = |why| TlsError::Bad { flag: "tls-key", path: key.clone(), why };
                builder.with_client_auth_cert(chain, secret).map_err(bad)?
            }
            _ => return Err(TlsError::Half),
        };
        Ok(Arc::new(config))
    }
}

/// The name that a certificate must have.
pub(super) fn name(text: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(text.to_owned()).map_err(|_| TlsError::Name(text.to_owned()))
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(flag, path, error))?;
    if certificates.is_empty() {
        return Err(TlsError::Nothing { flag, path: path.to_owned() });
    }
    Ok(certificates)
}

fn unreadable(flag: &'static str, path: &Path, error: pem::Error) -> TlsError {
    let source = match error {
        pem::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    };
    TlsError::File { flag, path: path.to_owned(), source }
}
