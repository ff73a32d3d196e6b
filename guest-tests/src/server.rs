//! NBD servers of other projects, as processes, and certificates for them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failed, Outcome, Scratch, ensure, fail};

/// How long a server may take to start.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server, which is killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts it, and waits until `is_there`.
    ///
    /// # Errors
    ///
    /// If it ends, or does not listen in time.
    pub fn start(
        program: &str,
        arguments: &[&str],
        is_there: impl Fn() -> bool,
    ) -> Result<Self, Failed> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self { child: command.spawn()? };
        let begin = Instant::now();
        while !is_there() {
            if let Some(status) = server.child.try_wait()? {
                fail!("{program} {arguments:?} ended with {status}");
            }
            ensure!(begin.elapsed() < PATIENCE, "{program} {arguments:?} does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// On this Unix socket.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn at_socket(program: &str, arguments: &[&str], socket: &Path) -> Result<Self, Failed> {
        // The file may be there before the server listens.
        Self::start(program, arguments, || UnixStream::connect(socket).is_ok())
    }

    /// nbdkit on a Unix socket, with these arguments. The second value is its URI.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn nbdkit(scratch: &Scratch, arguments: &[&str]) -> Result<(Self, String), Failed> {
        let socket = scratch.path("nbdkit.sock");
        // The one of a server that was killed.
        let _removed = fs::remove_file(&socket);
        let place = socket.display().to_string();
        let mut all = vec!["--foreground", "--exit-with-parent", "--unix", &place];
        all.extend(arguments);
        let server = Self::at_socket("nbdkit", &all, &socket)?;
        Ok((server, format!("nbd+unix:///?socket={place}")))
    }

    /// nbdkit with `image` and TLS on a port of 127.0.0.1, for clients with a certificate. Its own is for `host`. All
    /// [`certificates`] are in the directory `pki`.
    ///
    /// # Errors
    ///
    /// As [`Server::start`], and [`certificates`].
    pub fn encrypted(scratch: &Scratch, image: &Path, host: &str) -> Result<(Self, u16), Failed> {
        let (directory, port) = (scratch.path("pki"), free_port()?);
        fs::create_dir(&directory)?;
        certificates(&directory, host)?;
        let pki = format!("--tls-certificates={}", directory.display());
        let (number, file) = (port.to_string(), image.display().to_string());
        let arguments = [
            "--foreground",
            "--exit-with-parent",
            "--tls=require",
            "--tls-verify-peer",
            &pki,
            "--ipaddr=127.0.0.1",
            "--port",
            &number,
            "file",
            &file,
        ];
        Ok((Self::start("nbdkit", &arguments, || listens(port))?, port))
    }

    /// Sends it a signal, as `kill` names it.
    ///
    /// # Errors
    ///
    /// If `kill` fails.
    pub fn signal(&self, signal: &str) -> Outcome {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status()?;
        ensure!(sent.success(), "kill {signal}: {sent}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails where it has ended, and that is as well.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// A port of 127.0.0.1 that is free now.
///
/// # Errors
///
/// If there is none.
pub fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether anyone listens on this port of 127.0.0.1.
pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Makes an authority, and a server's and a client's certificate, as nbdkit looks for them, in a directory that exists.
/// The server's is for `host`, in the words of a subjectAltName.
///
/// # Errors
///
/// If `openssl` fails: what it printed.
pub fn certificates(directory: &Path, host: &str) -> Outcome {
    let run = |arguments: &[&str]| -> Outcome {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(directory).args(arguments).stdin(Stdio::null());
        let ended = openssl.output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "openssl {arguments:?}: {said}");
        Ok(())
    };
    let request = |more: &[&str]| {
        let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        run(&[&new, more].concat())
    };
    let (key, cert) = (["-keyout", "ca-key.pem"], ["-out", "ca-cert.pem"]);
    request(&[&["-x509", "-days", "2", "-subj", "/CN=test"][..], &key, &cert].concat())?;
    for (name, extension) in [
        ("server", format!("subjectAltName={host}\nextendedKeyUsage=serverAuth\n")),
        ("client", "extendedKeyUsage=clientAuth\n".to_owned()),
    ] {
        fs::write(directory.join("extensions"), extension)?;
        let (key, csr) = (format!("{name}-key.pem"), format!("{name}.csr"));
        let cert = format!("{name}-cert.pem");
        request(&["-subj", "/CN=one", "-keyout", &key, "-out", &csr])?;
        let sign = ["x509", "-req", "-days", "2", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem"];
        let files = ["-CAcreateserial", "-extfile", "extensions", "-in", &csr, "-out", &cert];
        run(&[&sign[..], &files].concat())?;
    }
    Ok(())
}

/// The keys of a disk for a client with the [`certificates`] in this directory.
pub fn tls_keys(directory: &Path) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    let [ca, cert, key] = ["ca-cert.pem", "client-cert.pem", "client-key.pem"].map(file);
    format!("tls-ca={ca},tls-cert={cert},tls-key={key}")
}
