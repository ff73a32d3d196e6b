//! Copies a sector to the layer before a part of it is written.
//!
//! Drivers that follow their protocol never cause this: both protocols count in sectors. The copy is synchronous, in
//! its own lane, one sector at a time for the whole disk, so only such writes wait for each other. A write to a part of
//! a sector and a simultaneous write to the whole sector have no order: either may be lost.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Map, Store};
use crate::block::{BlockError, Engine, Operation, Request, SECTOR_SIZE, Stop, Storage};
use crate::memory::{Buffers, GuestRam};

/// How often a wait checks whether the machine is being stopped.
const LOOK: Duration = Duration::from_millis(100);

/// Copies sectors from the base to the layer.
#[derive(Debug, Default)]
pub(super) struct Fill(Mutex<Option<Copier>>);

#[derive(Debug)]
struct Copier {
    base: Box<dyn Engine>,
    layer: Box<dyn Engine>,
    /// The buffer for a sector.
    ram: GuestRam,
}

impl Fill {
    /// Ensures that the layer has the sector at `offset`.
    ///
    /// # Errors
    ///
    /// The host's error, and the store that it concerns.
    pub(super) fn sector(
        &self,
        map: &dyn Map,
        stores: [&dyn Storage; 2],
        stop: &Stop,
        offset: u64,
    ) -> Result<(), (Store, BlockError)> {
        if map.find(offset, SECTOR_SIZE).store == Store::Layer {
            return Ok(());
        }
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have copied it in the meantime. Beyond the end of the base everything is in the layer
        // already.
        let extent = map.find(offset, SECTOR_SIZE);
        if extent.store == Store::Layer {
            return Ok(());
        }
        let host = |source| (Store::Layer, BlockError::Host { offset, source });
        let mut copier = match place.take() {
            Some(copier) => copier,
            None => Copier::new(stores, stop).map_err(host)?,
        };
        let buffer = Buffers::single(copier.ram.clone(), 0, extent.len);
        let data = buffer.map_err(|error| host(io::Error::other(error)))?;
        run(&mut copier.base, Operation::Read(data.clone()), extent.offset, stop)
            .map_err(|error| (Store::Base, error))?;
        let write = Operation::Write { data, durable: false };
        run(&mut copier.layer, write, offset, stop).map_err(|error| (Store::Layer, error))?;
        map.moved(offset, SECTOR_SIZE);
        // After a failure a new lane is created, which has nothing in flight.
        *place = Some(copier);
        Ok(())
    }
}

impl Copier {
    fn new([base, layer]: [&dyn Storage; 2], stop: &Stop) -> io::Result<Self> {
        let ram = GuestRam::anonymous(&[(0, 4096)]).map_err(io::Error::other)?;
        Ok(Self { base: base.engine(stop)?, layer: layer.engine(stop)?, ram })
    }
}

/// Carries out one request and waits for it.
fn run(
    engine: &mut Box<dyn Engine>,
    operation: Operation,
    offset: u64,
    stop: &Stop,
) -> Result<(), BlockError> {
    let mut done = Vec::with_capacity(1);
    engine.push(Request { tag: 0, operation, offset });
    engine.commit();
    loop {
        engine.reap(&mut done);
        match done.pop() {
            Some(completion) => return completion.result,
            None if stop.is_stopped() => return Err(BlockError::Stopped),
            None => engine.wait(LOOK),
        }
    }
}
