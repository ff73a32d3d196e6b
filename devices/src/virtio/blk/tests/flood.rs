//! A guest that makes mistakes as fast as it can: the log and the memory of the host stay small.

use super::*;
use crate::bus::BusDevice;

#[test]
fn a_flood_of_errors_of_every_kind_is_a_few_lines_in_the_log() {
    const ROUNDS: u32 = 300;
    let setup = Setup::new();
    let lines = LogLines::of(|| {
        let mut driver = setup.driver(Access::ReadWrite);
        for n in 0..ROUNDS {
            driver.restart(feature::BLK_FLUSH, 8);
            // Each register, written and read, in every width.
            for offset in (0..0x200).step_by(4) {
                if offset != reg::STATUS {
                    driver.mmio.write(offset, &[0xff; 4]);
                    driver.mmio.write(offset, &[n as u8; 2]);
                    driver.mmio.read(offset + 1, &mut [0; 8]);
                }
            }
            for kind in [T_IN, T_OUT, 2, 77, blk::T_DISCARD, blk::T_WRITE_ZEROES] {
                driver.request(kind, 1 << 40, 512);
                driver.request(kind, 0, 100);
            }
            driver.offer(77);
            driver.kick();
            driver.kick_queue(n);
        }
    });
    assert!((10..100).contains(&lines), "{lines} lines");
}

#[test]
fn a_flood_of_broken_rings_costs_three_lines() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadWrite);
    let lines = LogLines::of(|| {
        for _ in 0..1000 {
            driver.restart(0, 8);
            driver.offer(8);
            driver.kick();
            assert!(driver.needs_reset());
        }
    });
    assert_eq!(lines, 3);
}

#[test]
fn a_flood_of_host_errors_costs_three_lines() {
    let setup = Setup::new();
    let (driver, faults) = setup.faulty();
    let mut driver = driver.live(0, 8);
    let lines = LogLines::of(|| {
        for _ in 0..1000 {
            faults.push(Fault::After(0, libc::EIO));
            assert_eq!(driver.request(T_IN, 0, 512), used(1, S_IOERR));
        }
    });
    assert_eq!(lines, 3);
}
