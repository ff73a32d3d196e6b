//! The built-in shell, scripted by its command line and typed to by its serial port: `resources/guests/shell`.

mod answers;
mod engines;
mod errors;
mod expect;
mod features;
mod typed;

use answers::{
    a_doorbell_a_request, entries_of_32_bytes, every_command_on_svirtb, every_command_on_virtio,
    polled, read_only_disks, reboot, three_disks,
};
use engines::every_engine;
use errors::{
    a_virtio_disk_only, an_svirtb_disk_only, no_disk, wrong_commands, wrong_on_svirtb,
    wrong_on_virtio,
};
use features::what_the_device_offers;
use typed::{ctrl_c, edited, end_of_input, long_lines, mended, not_text, typed_ahead};

cafevm_guest_tests::tests! {
    every_command_on_virtio,
    every_command_on_svirtb,
    three_disks,
    polled,
    entries_of_32_bytes,
    read_only_disks,
    every_engine,
    what_the_device_offers,
    a_doorbell_a_request,
    reboot,
    wrong_commands,
    wrong_on_virtio,
    wrong_on_svirtb,
    no_disk,
    a_virtio_disk_only,
    an_svirtb_disk_only,
    mended,
    edited,
    end_of_input,
    long_lines,
    not_text,
    ctrl_c,
    typed_ahead,
}
