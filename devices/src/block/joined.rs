//! Which of a lane's requests one call of the host can move together.

use super::{Operation, Request};

/// The most bytes moved together. A longer request is moved alone.
const MOST_BYTES: u64 = 1 << 20;
/// The most ranges of guest RAM in one call of the host.
const MOST_RANGES: usize = 512;

/// How bytes are moved. Only requests of the same kind are moved together.
#[derive(PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// The kind of a request, and the number of its ranges of guest RAM; none if it is not moved together with others: it
/// moves no bytes, or is a durable write. The host reports a failure to reach stable storage only once, so no later attempt
/// may hide it.
fn kind(operation: &Operation) -> Option<(Kind, usize)> {
    match operation {
        Operation::Read(data) if !data.is_empty() => Some((Kind::Read, data.ranges())),
        Operation::Write { data, durable: false } if !data.is_empty() => {
            Some((Kind::Write, data.ranges()))
        }
        _ => None,
    }
}

/// How many of the first requests are of one kind and each begin on the disk where the one before ends. At most as many
/// as one call of the host should move; 0 or 1 if there is nothing to join.
pub(super) fn neighbours<'a>(mut requests: impl Iterator<Item = &'a Request>) -> usize {
    let Some(first) = requests.next() else { return 0 };
    let Some((shared, mut ranges)) = kind(&first.operation) else { return 0 };
    let mut bytes = first.operation.len();
    let joins = requests.take_while(|request| {
        let Some((kind, more)) = kind(&request.operation) else { return false };
        let follows = kind == shared && first.offset.checked_add(bytes) == Some(request.offset);
        ranges = ranges.saturating_add(more);
        bytes = bytes.saturating_add(request.operation.len());
        follows && ranges <= MOST_RANGES && bytes <= MOST_BYTES
    });
    1 + joins.count()
}

/// How many of the first `requests`, neighbours of which `moved` bytes were moved together, are moved completely.
pub(super) fn complete<'a>(requests: impl Iterator<Item = &'a Request>, moved: u64) -> usize {
    let mut left = moved;
    let is_complete = |request: &&Request| {
        let rest = left.checked_sub(request.operation.len());
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    requests.take_while(is_complete).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Buffers, GuestRam};

    fn data(len: u64) -> Buffers {
        let ram = GuestRam::anonymous(&[(0, 2 << 20)]).unwrap();
        Buffers::single(ram, 0, len).unwrap()
    }

    fn read(offset: u64, len: u64) -> Request {
        Request { tag: 0, operation: Operation::Read(data(len)), offset }
    }

    fn write(offset: u64, durable: bool) -> Request {
        Request { tag: 0, operation: Operation::Write { data: data(512), durable }, offset }
    }

    #[test]
    fn only_neighbours_of_one_kind_are_joined() {
        let flush = || Request { tag: 0, operation: Operation::Flush, offset: 1024 };
        for (expected, requests) in [
            (0, vec![]),
            (1, vec![read(0, 512)]),
            (3, vec![read(0, 512), read(512, 1024), read(1536, 512), read(4096, 512)]),
            (1, vec![read(512, 512), read(0, 512)]),
            (1, vec![read(0, 512), read(0, 512)]),
            (1, vec![read(0, 512), write(512, false)]),
            (0, vec![write(0, true), write(512, true), write(1024, false)]),
            (1, vec![write(0, false), write(512, true)]),
            (2, vec![write(0, false), write(512, false), flush(), write(1024, false)]),
            (0, vec![flush(), flush()]),
            (1, vec![read(0, 512), read(512, 0)]),
            (0, vec![read(0, 0), read(0, 512)]),
            (1, vec![read(u64::MAX, 512), read(511, 512)]),
            (2, vec![read(0, 512 << 10), read(512 << 10, 512 << 10), read(1 << 20, 512)]),
            (1, vec![read(0, 2 << 20), read(2 << 20, 512)]),
        ] {
            assert_eq!(neighbours(requests.iter()), expected, "{requests:?}");
        }
        let many: Vec<_> = (0..1000).map(|n| read(512 * n, 512)).collect();
        assert_eq!(neighbours(many.iter()), MOST_RANGES);
    }
}

#[cfg(test)]
#[path = "joined_tests.rs"]
mod on_an_image;
