//! The error of the build script if the guests' target cannot be added.

#[path = "../build.rs"]
#[allow(dead_code, reason = "only its reasons are looked at here")]
mod build;

use build::reason;

#[test]
fn the_reason_is_the_error_and_not_a_backtrace() {
    let backtrace = b"info: syncing\nerror: could not download file\n\nStack backtrace:\n   0: main\n  15: <unknown>\n";
    assert_eq!(reason(backtrace), "error: could not download file");
    assert_eq!(reason(b"warning: x\nno such command\n\n"), "no such command");
    assert_eq!(reason(b"\n"), "no reason given");
}
