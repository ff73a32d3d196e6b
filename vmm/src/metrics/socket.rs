//! The socket for metrics: connections and their events, on the main thread.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events};

use super::Exporter;
use super::connection::Connection;
use crate::error::HostError;
use crate::runtime::event_loop::{Subscriber, failed, unwatch, watch};
use crate::runtime::listener::{Acceptor, Listener};
use crate::runtime::timer::Timer;

/// The most connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 8;

/// The subscriber of the socket for metrics.
pub(crate) struct MetricsSocket {
    acceptor: Acceptor,
    exporter: Exporter,
    /// The connections by descriptor, with the events that are watched.
    connections: BTreeMap<RawFd, (Connection, EventSet)>,
    /// Expires at the next deadline of a connection.
    patience: Timer,
}

impl MetricsSocket {
    /// Serves the metrics of `exporter` to the clients of `listener`.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(listener: Listener, exporter: Exporter) -> Result<Self, HostError> {
        let acceptor = Acceptor::new("the socket for metrics", listener)?;
        Ok(Self { acceptor, exporter, connections: BTreeMap::new(), patience: Timer::new()? })
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        while self.connections.len() < CONNECTIONS_MAX {
            let Some(stream) = self.acceptor.accept()? else { return Ok(()) };
            let (fd, events) = (stream.as_raw_fd(), EventSet::IN);
            ops.add(Events::new(&stream, events)).map_err(failed)?;
            self.connections.insert(fd, (Connection::new(stream), events));
        }
        Ok(())
    }

    /// Handles a connection's events, and registers the next ones.
    fn handle_connection(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((connection, watched)) = self.connections.get_mut(&fd) else { return Ok(()) };
        match connection.handle(Exporter::CONTENT_TYPE, || self.exporter.text()) {
            Err(_ended) => self.drop_connection(fd, ops),
            Ok(events) if events == *watched => Ok(()),
            Ok(events) => {
                *watched = events;
                ops.modify(Events::new(&connection.stream, events)).map_err(failed)
            }
        }
    }

    fn drop_connection(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((connection, _)) = self.connections.remove(&fd) else { return Ok(()) };
        self.acceptor.freed();
        // Before the close: after it another descriptor may have this number.
        unwatch(ops, &connection.stream)
    }

    fn drop_slow_ones(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let now = Instant::now();
        let slow: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(fd, (connection, _))| (connection.deadline <= now).then_some(*fd))
            .collect();
        slow.into_iter().try_for_each(|fd| self.drop_connection(fd, ops))
    }

    /// Registers the next events and deadlines.
    fn arm(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.acceptor.arm(self.connections.len() < CONNECTIONS_MAX, ops)?;
        let soonest = self.connections.values().map(|(connection, _)| connection.deadline).min();
        self.patience.set_at(soonest)
    }
}

impl Subscriber for MetricsSocket {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.patience)?;
        self.acceptor.begin(ops)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if self.acceptor.handle(fd)? {
            self.accept(ops)?;
        } else if fd == self.patience.as_raw_fd() {
            self.drop_slow_ones(ops)?;
        } else if event.event_set().contains(EventSet::ERROR) {
            self.drop_connection(fd, ops)?;
        } else {
            self.handle_connection(fd, ops)?;
        }
        self.arm(ops)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::path::Path;

    use super::*;
    use crate::config::address::ListenAddress;
    use crate::machine::devices::Devices;
    use crate::metrics::listen;
    use crate::runtime::event_loop::EventLoop;
    use crate::vcpu::exits::ExitCounters;

    /// A loop that serves metrics of a machine without disks, and the address.
    fn serving(address: &str) -> (EventLoop<dyn Subscriber>, String) {
        let address = ListenAddress::parse(address).unwrap();
        let listener = listen(&address).unwrap();
        let at = listener.address(&address);
        let exporter = Exporter::new(Devices::default(), vec![<_>::default(); 2]);
        let mut events: EventLoop<dyn Subscriber> = EventLoop::new().unwrap();
        events.add(Box::new(MetricsSocket::new(listener, exporter).unwrap())).unwrap();
        (events, at)
    }

    /// Serves until the client has the whole response.
    fn response(events: &mut EventLoop<dyn Subscriber>, client: &mut TcpStream) -> String {
        client.set_nonblocking(true).unwrap();
        let mut response = Vec::new();
        loop {
            events.serve_what_is_there().unwrap();
            match client.read_to_end(&mut response) {
                Ok(_) => return String::from_utf8(response).unwrap(),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn clients_that_say_nothing_are_dropped_and_others_get_their_place() {
        let (mut events, address) = serving("127.0.0.1:0");
        let connect = || TcpStream::connect(&address).unwrap();
        let mut silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect()).collect();
        events.serve_what_is_there().unwrap();
        let mut client = connect();
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let text = response(&mut events, &mut client);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        for silent in &mut silent {
            assert_eq!(response(&mut events, silent), "");
        }
    }

    #[test]
    fn a_request_may_come_byte_by_byte_and_a_response_is_whole() {
        let (mut events, address) = serving("127.0.0.1:0");
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        for byte in b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" {
            client.write_all(&[*byte]).unwrap();
            events.serve_what_is_there().unwrap();
        }
        let text = response(&mut events, &mut client);
        assert!(text.ends_with("cafevm_vcpu_exits_total{vcpu=\"1\",exit=\"other\"} 0\n"), "{text}");
    }

    #[test]
    fn counters_are_read_at_each_scrape() {
        let exits = std::sync::Arc::<ExitCounters>::default();
        let exporter = Exporter::new(Devices::default(), vec![exits.clone()]);
        let interrupted =
            |count| format!("cafevm_vcpu_exits_total{{vcpu=\"0\",exit=\"interrupted\"}} {count}\n");
        assert!(exporter.text().contains(&interrupted(0)), "{}", exporter.text());
        exits.interrupted();
        assert!(exporter.text().contains(&interrupted(1)));
    }

    #[test]
    fn a_socket_with_a_file_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics");
        let (events, at) = serving(&format!("unix:{}", path.display()));
        assert!(Path::new(&at) == path && path.exists());
        drop(events);
        assert!(!path.exists());
    }
}
