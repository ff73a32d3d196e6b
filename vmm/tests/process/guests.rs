//! Guests of a few instructions, as handmade ELF files.

/// The address at which they are loaded and start.
pub(crate) const BASE: u64 = 0x20_0000;

/// Prints the command line from PVH's start_info: mov esi, [ebx+0x18]; then bytes to COM1 until a zero; exits 0.
pub(crate) const PRINT_PVH: &[u8] =
    b"\x8b\x73\x18\x66\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xb0\x00\xe6\xf4";
/// The same in 64-bit mode from the zero page: mov esi, [rsi+0x228].
pub(crate) const PRINT_LONG: &[u8] =
    b"\x8b\xb6\x28\x02\x00\x00\x66\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xb0\x00\xe6\xf4";
/// Sends 'R' and spins.
pub(crate) const READY_AND_SPIN: &[u8] = b"\x66\xba\xf8\x03\xb0R\xee\xeb\xfe";
/// Sends 'F' forever.
pub(crate) const FLOOD: &[u8] = b"\x66\xba\xf8\x03\xb0F\xee\xeb\xfd";
/// Polls the line status of COM1 for input and sends it back, until a 'q' comes; exits 0.
pub(crate) const ECHO: &[u8] =
    b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7\x66\xba\xf8\x03\xec\x3cq\x74\x03\xee\xeb\xeb\xb0\x00\xe6\xf4";

/// Reports 2,000 times on port 0x505 that it panicked and starts its crash kernel; exits 0: mov ecx, 2000; out dx, al;
/// loop.
pub(crate) const PANIC_2000_TIMES: &[u8] =
    b"\xb9\xd0\x07\x00\x00\x66\xba\x05\x05\xb0\x02\xee\xe2\xfd\xb0\x00\xe6\xf4";
/// The same forever.
pub(crate) const PANIC_FOR_EVER: &[u8] = b"\x66\xba\x05\x05\xb0\x02\xee\xeb\xfd";
/// Reads 0x10001000, the first virtio slot of QEMU's RISC-V machine, where cafevm has no device: mov eax, [0x10001000]
/// at [`BASE`]; exits 0.
pub(crate) const READ_NOWHERE: &[u8] = b"\xa1\x00\x10\x00\x10\xb0\x00\xe6\xf4";
/// Writes 0x76697274 there: mov dword [0x10001000], 0x76697274; exits 0.
pub(crate) const WRITE_NOWHERE: &[u8] = b"\xc7\x05\x00\x10\x00\x10\x74\x72\x69\x76\xb0\x00\xe6\xf4";
/// Reads there 10,000 times: mov ecx, 10000; again: mov eax, [0x10001000]; dec ecx; jnz again; exits 0.
pub(crate) const READ_NOWHERE_OFTEN: &[u8] =
    b"\xb9\x10\x27\x00\x00\xa1\x00\x10\x00\x10\x49\x75\xf8\xb0\x00\xe6\xf4";
/// Reads 10,000 words from there on: mov edi, 0x10001000; mov ecx, 10000; again: mov eax, [edi]; add edi, 4; dec ecx;
/// jnz again; exits 0.
pub(crate) const READ_ALL_OVER: &[u8] =
    b"\xbf\x00\x10\x00\x10\xb9\x10\x27\x00\x00\x8b\x07\x83\xc7\x04\x49\x75\xf8\xb0\x00\xe6\xf4";

/// Sends 'F' 300,000 times, without a look at the line status; exits 0.
pub(crate) const FLOOD_300000: &[u8] =
    b"\xb9\xe0\x93\x04\x00\x66\xba\xf8\x03\xb0F\xee\xe2\xfd\xb0\x00\xe6\xf4";

/// The text that [`printing`] prints repeatedly.
pub(crate) const BLOCK: &[u8; 16] = b"0123456789abcde\n";

/// How [`printing`] checks that it may send 16 bytes: a port of COM1, and a bit.
pub(crate) const LINE_STATUS: [u8; 2] = [0xfd, 0x20];
pub(crate) const INTERRUPT_ID: [u8; 2] = [0xfa, 0x02];

/// Enables the transmitter's interrupt and prints [`BLOCK`] this many times, each time only when `ready` allows it.
/// When it has to wait for the first time, it writes port 0x505, which logs a line. Exits with 1 if it ever waited.
pub(crate) fn printing(blocks: u32, [port, bit]: [u8; 2]) -> Vec<u8> {
    const ENABLE: &[u8] = b"\x66\xba\xf9\x03\xb0\x02\xee"; // mov dx, 0x3f9; mov al, 2; out dx, al
    const LEN: usize = 53;
    let text = BASE as u32 + (ENABLE.len() + LEN) as u32;
    let code = [
        b"\x31\xff\xbd", // xor edi, edi; mov ebp, blocks
        &blocks.to_le_bytes()[..],
        &[0x66, 0xba, port, 0x03],                   // next: mov dx, port
        &[0xec, 0xa8, bit],                          // wait: in al, dx; test al, bit
        b"\x75\x0e\x85\xff\x75\xf7",                 // jnz send; test edi, edi; jnz wait
        b"\x47\x66\xba\x05\x05\xb0\x02\xee\xeb\xe9", // inc edi; mov dx, 0x505; mov al, 2; out dx, al; jmp next
        b"\x66\xba\xf8\x03\xb9\x10\x00\x00\x00\xbe", // send: mov dx, 0x3f8; mov ecx, 16; mov esi, text
        &text.to_le_bytes(),
        b"\xf3\x6e\x4d\x75\xd6\x89\xf8\xe6\xf4", // rep outsb; dec ebp; jnz next; mov eax, edi; out 0xf4, al
    ]
    .concat();
    assert_eq!(code.len(), LEN);
    [ENABLE, &code, BLOCK].concat()
}

/// A guest entered in 32-bit mode by a PVH note.
pub(crate) fn pvh(code: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4u32, 4, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend((BASE as u32).to_le_bytes());
    elf(code, &note)
}

/// A guest entered in 64-bit mode.
pub(crate) fn long(code: &[u8]) -> Vec<u8> {
    elf(code, &[])
}

fn elf(code: &[u8], note: &[u8]) -> Vec<u8> {
    let parts: u16 = if note.is_empty() { 1 } else { 2 };
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2u16, 62] {
        file.extend(half.to_le_bytes()); // an executable for x86-64
    }
    file.extend(1u32.to_le_bytes());
    for word in [BASE, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, sections
    }
    file.extend([0; 4]);
    for half in [64, 56, parts, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let contents = 64 + 56 * u64::from(parts);
    let mut part = |kind: u32, offset: u64, addr: u64, len: usize| {
        file.extend(kind.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        for word in [offset, addr, addr, len as u64, len as u64, 4] {
            file.extend(word.to_le_bytes());
        }
    };
    part(1, contents, BASE, code.len());
    if !note.is_empty() {
        part(4, contents + code.len() as u64, 0, note.len());
    }
    file.extend(code);
    file.extend(note);
    file
}
