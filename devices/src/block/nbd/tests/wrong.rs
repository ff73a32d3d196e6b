//! Wrong servers: each a clear line, and an end.

use super::*;
use crate::testing::Wrong;

fn server(wrong: Wrong) -> NbdServer {
    NbdServer::new(&[0x11; 8192], Behaviour { wrong: Some(wrong), ..Behaviour::default() }).unwrap()
}

#[test]
fn a_server_that_is_wrong_in_the_handshake_is_refused_with_its_step() {
    for (wrong, says) in [
        (Wrong::ClosesAtOnce, "greeting: the server closed the connection"),
        (Wrong::IsNoNbd, "greeting: the server begins with \"HTTP/1.1\", which is not NBD"),
        (Wrong::IsOldStyle, "greeting: the server speaks the old style of NBD"),
        (Wrong::HasNoOptions, "greeting: the server has no fixed newstyle handshake (flags 0x2)"),
        (Wrong::ClosesAfterGreeting, "the server closed the connection"),
        (Wrong::IsSilent, "greeting: the server did not answer in time"),
        (Wrong::IsSlowInGreeting, "greeting: the server did not answer in time"),
        (Wrong::OptionMagic, "NBD_OPT_STRUCTURED_REPLY: a reply begins with 0x1111111111111111"),
        (Wrong::OtherOption, "NBD_OPT_STRUCTURED_REPLY: the server answers option 9"),
        (
            Wrong::OversizeOption,
            "NBD_OPT_STRUCTURED_REPLY: a reply of type 0x1 has 4294967295 bytes",
        ),
        (Wrong::UnexpectedOption, "NBD_OPT_STRUCTURED_REPLY: a reply has the unexpected type 0x4d"),
        (Wrong::EndlessOption, "NBD_OPT_GO: the server does not stop to answer"),
        (Wrong::ClosesAtGo, "NBD_OPT_GO: the server closed the connection"),
        (Wrong::GoFails(1), "NBD_OPT_GO: the server refuses: it does not know this option"),
        (Wrong::GoFails(2), "NBD_OPT_GO: the server refuses: its administrator forbids it"),
        (Wrong::GoFails(5), "NBD_OPT_GO: the server refuses: it requires TLS; use nbds"),
        (
            Wrong::GoFails(6),
            "refuses: it has no export of this name; see 'nbdinfo --list' (the server says: because\\u{1b}[2J\\nof this)",
        ),
        (Wrong::GoFails(7), "NBD_OPT_GO: the server refuses: it is being shut down"),
        (Wrong::GoFails(8), "NBD_OPT_GO: the server refuses: it requires block sizes"),
        (Wrong::GoFails(9), "NBD_OPT_GO: the server refuses: the name of the export is too long"),
        (Wrong::GoFails(99), "NBD_OPT_GO: the server refuses: with an error that is not known"),
        (Wrong::NoSize, "NBD_OPT_GO: the server tells no size"),
        (Wrong::ShortInfo, "NBD_OPT_GO: the information 0 has 3 bytes"),
        (Wrong::NoFlags, "NBD_OPT_GO: the transmission flags 0x0 lack NBD_FLAG_HAS_FLAGS"),
        (Wrong::Size(0), "NBD_OPT_GO: the export has 0 bytes"),
        (Wrong::Size(1000), "NBD_OPT_GO: the export has 1000 bytes, which are no whole sectors"),
        (Wrong::Size(u64::MAX - 511), "and at most 2^63 - 1 are possible"),
        (Wrong::BlockSizes(0, 4096, 4096), "the block sizes 0, 4096 and 4096"),
        (Wrong::BlockSizes(3, 4096, 4096), "the block sizes 3, 4096 and 4096"),
        (Wrong::BlockSizes(1 << 17, 1 << 17, 1 << 20), "the block sizes 131072, 131072"),
        (Wrong::BlockSizes(512, 4096, 512), "the block sizes 512, 4096 and 512"),
    ] {
        let server = server(wrong);
        let mut options = NbdOptions::new(server.uri().parse().unwrap());
        let error = NbdStorage::open(options.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong:?}: {error}");
        assert!(error.starts_with(&server.uri()) && error.len() < 500, "{wrong:?}: {error}");
        assert!(!error.contains(['\n', '\x1b']), "{wrong:?}: {error:?}");
        options.connections = 0;
        assert!(NbdStorage::open(options).unwrap_err().to_string().contains("connections=0"));
    }
}

#[test]
fn a_server_that_is_wrong_in_a_reply_is_left() {
    const READ: &str = "the server broke the NBD protocol: ";
    for (wrong, says) in [
        (Wrong::ReplyMagic, "a reply begins with 0x22222222"),
        (Wrong::Cookie, "a reply has the cookie 0x7777777777777777"),
        (Wrong::ChunkType, "a chunk has the unknown type 99"),
        (Wrong::OversizeChunk, "a chunk has 4294967287 bytes at 512"),
        (Wrong::ChunkOutside, "a chunk has 2 bytes at 1023"),
        (Wrong::ChunkTwice, "a chunk has 256 bytes at 768"),
        (Wrong::ShortRead, "a read of 512 bytes ended after 256 bytes"),
        (Wrong::SimpleRead, "a read is answered by a simple reply"),
        (Wrong::NoneNotLast, "a chunk without data does not end its reply"),
        (Wrong::ErrorZero, "an error has the number 0"),
        (Wrong::ErrorText, "an error has a text of 65535 bytes in a chunk of 8"),
        (Wrong::ErrorsWithoutEnd, "a reply has more than 64 errors"),
        (Wrong::ShutsDown, "the server is being shut down"),
    ] {
        for reconnect in [Duration::ZERO, Duration::from_millis(200)] {
            let server = server(wrong);
            let rig = Rig::new(&server, reconnect, 1);
            let mut lane = rig.lane();
            let error = read(&mut lane, 512, 512).unwrap_err().to_string();
            assert!(error.contains(&format!("{READ}{says}")), "{wrong:?}: {error}");
        }
    }
    for (wrong, says) in [
        (Wrong::ClosesAtRequest, "the server closed the connection"),
        (Wrong::ClosesInReply, "the server closed the connection"),
    ] {
        let server = server(wrong);
        let rig = Rig::new(&server, Duration::from_millis(200), 1);
        let error = read(&mut rig.lane(), 512, 512).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong:?}: {error}");
    }
}

#[test]
fn a_second_answer_and_crumbs_end_the_connection() {
    let server = server(Wrong::AnswersTwice);
    let rig = Rig::new(&server, Duration::ZERO, 1);
    let mut lane = rig.lane();
    let first = read(&mut lane, 512, 512);
    assert!(first.is_err() || first.unwrap() == [0x11; 512]);
    let error = read(&mut lane, 512, 512).unwrap_err().to_string();
    assert!(error.contains("which no request in flight has"), "{error}");

    let server = self::server(Wrong::Crumbs);
    let rig = Rig::new(&server, Duration::ZERO, 1);
    let error = read(&mut rig.lane(), 0, 8192).unwrap_err().to_string();
    assert!(error.contains("a chunk has 1 bytes at 2048"), "{error}");
}

#[test]
fn data_for_a_write_ends_the_connection() {
    let server = server(Wrong::DataForWrite);
    let rig = Rig::new(&server, Duration::ZERO, 1);
    let error = rig.lane().run(write(&[1; 512], false), 0).unwrap_err().to_string();
    assert!(error.contains("a reply with data answers a Write"), "{error}");
}
