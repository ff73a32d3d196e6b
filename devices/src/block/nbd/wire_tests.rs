use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn chunk(flags: u16, kind: u16, cookie: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = STRUCTURED_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

fn decoded(bytes: &[u8]) -> Head {
    // No shorter part is taken for the whole.
    let (head, len) = Head::decode(bytes).unwrap().unwrap();
    for part in 0..len {
        assert_eq!(Head::decode(&bytes[..part]), Ok(None), "{part} of {len} bytes");
    }
    head
}

#[test]
fn a_request_has_the_bytes_of_the_specification() {
    let header = RequestHeader {
        flags: command_flag::FUA,
        command: Command::Write,
        cookie: 0x0102_0304_0506_0708,
        offset: 0x1112_1314_1516_1718,
        len: 0x2122_2324,
    };
    let expected = [
        0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15,
        0x16, 0x17, 0x18, 0x21, 0x22, 0x23, 0x24,
    ];
    assert_eq!(header.encode(), expected);
}

#[test]
fn replies_of_all_kinds() {
    let simple = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let head = |cookie, is_last, body| Head { cookie, is_last, body };
    assert_eq!(decoded(&simple), head(9, true, Body::Simple));
    let failed = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 9];
    let error = Body::Error { error: 28, text: Vec::new() };
    assert_eq!(decoded(&failed), head(9, true, error));
    assert_eq!(decoded(&chunk(1, 0, 7, b"")), head(7, true, Body::None));
    let data = chunk(0, 1, 7, &[0, 0, 0, 0, 0, 0, 2, 0, 1, 2, 3]);
    assert_eq!(decoded(&data), head(7, false, Body::Data { offset: 512, len: 3 }));
    let hole = chunk(1, 2, 7, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0]);
    assert_eq!(decoded(&hole), head(7, true, Body::Hole { offset: 512, len: 256 }));
    for (kind, more) in [(0x8001, &[][..]), (0x8002, &[0; 8]), (0xffff, &[1, 2, 3])] {
        let content = [&[0, 0, 0, 5, 0, 2], &b"no"[..], more].concat();
        let error = Body::Error { error: 5, text: b"no".to_vec() };
        assert_eq!(decoded(&chunk(1, kind, 7, &content)), head(7, true, error));
    }
}

#[test]
fn what_is_no_reply_is_said() {
    let error = |bytes: &[u8]| Head::decode(bytes).unwrap_err();
    assert_eq!(error(b"HTTP/1.1"), WireError::Magic(0x4854_5450));
    assert_eq!(error(&chunk(1, 0, 7, b"x")), WireError::ChunkLength { kind: 0, len: 1 });
    assert_eq!(error(&chunk(0, 0, 7, b"")), WireError::NotLast);
    assert_eq!(error(&chunk(1, 1, 7, &[0; 8])), WireError::ChunkLength { kind: 1, len: 8 });
    assert_eq!(error(&chunk(1, 2, 7, &[0; 11])), WireError::ChunkLength { kind: 2, len: 11 });
    assert_eq!(error(&chunk(1, 3, 7, &[0; 8])), WireError::ChunkType(3));
    assert_eq!(error(&chunk(1, 0x8001, 7, &[0; 6])), WireError::NoError);
    let long = chunk(1, 0x8001, 7, &[0, 0, 0, 5, 0, 3, 1, 2]);
    assert_eq!(error(&long), WireError::TextLength { text: 3, len: 8 });
    // The length alone shows it: nothing is waited for.
    let mut endless = chunk(1, 0x8001, 7, b"");
    endless[16..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(error(&endless), WireError::ChunkLength { kind: 0x8001, len: u32::MAX });
}

#[test]
fn text_of_a_server_is_one_short_line() {
    assert_eq!(readable(b" no\n"), "no");
    assert_eq!(readable(b"a\x1b[2J\nb\xff"), "a\\u{1b}[2J\\nb\u{fffd}");
    assert_eq!(readable(&[b'x'; 5000]), format!("{}...", "x".repeat(200)));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_the_same_however_they_arrive(
        mut bytes in vec(any::<u8>(), 0..200),
        structured in any::<bool>(),
        kind in prop_oneof![0..4_u16, 0x8000..0x8004_u16],
        len in 0..40_u32,
    ) {
        let magic = if structured { STRUCTURED_MAGIC } else { SIMPLE_MAGIC };
        for (place, byte) in bytes.iter_mut().zip(magic.to_be_bytes()) {
            *place = byte;
        }
        if structured && bytes.len() >= CHUNK_LEN {
            bytes[6..8].copy_from_slice(&kind.to_be_bytes());
            bytes[16..20].copy_from_slice(&len.to_be_bytes());
        }
        let whole = Head::decode(&bytes);
        if let Ok(Some((_, used))) = &whole {
            prop_assert!(*used <= bytes.len() && *used <= LONGEST_HEAD);
        }
        for part in 0..bytes.len() {
            match Head::decode(&bytes[..part]) {
                // More bytes may be wrong, but what was decided stays.
                Ok(None) => {}
                decided => prop_assert_eq!(&decided, &whole),
            }
        }
    }
}
