//! Programs of one system call: it ends with the error number, or 0. Written as machine code, so that calls of i386 and
//! x32 are made without a compiler, and nothing of a C library runs under the filter.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where the words after the code of [`i386`] are in memory.
pub(crate) const I386_WORDS: u32 = I386_ENTRY + 41;
const I386_ENTRY: u32 = 0x0804_8000 + 84;
const X86_64_ENTRY: u64 = 0x40_0000 + 120;

/// A program of x86-64 that makes the call `number`.
pub(crate) fn x86_64(number: u64, arguments: [u64; 3]) -> Vec<u8> {
    let mut code = Vec::new();
    // mov rax, …; mov rdi, …; mov rsi, …; mov rdx, …
    for (opcode, value) in [0xb8, 0xbf, 0xbe, 0xba].into_iter().zip([number].into_iter().chain(arguments)) {
        code.extend([0x48, opcode]);
        code.extend(value.to_le_bytes());
    }
    // syscall; test rax, rax; jns +5; neg rax; jmp +2; xor eax, eax; mov edi, eax; mov eax, 60; syscall
    code.extend([0x0f, 0x05, 0x48, 0x85, 0xc0, 0x79, 0x05, 0x48, 0xf7, 0xd8, 0xeb, 0x02, 0x31, 0xc0]);
    code.extend([0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    let mut file = identification(2);
    file.extend(half(&[2, 62]));
    file.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers; flags; sizes and counts.
    file.extend([X86_64_ENTRY, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend(half(&[64, 56, 1, 0, 0, 0]));
    // One segment, loaded whole: type, flags; offset, address twice, size twice, alignment.
    file.extend([1_u32, 7].iter().flat_map(|word| word.to_le_bytes()));
    let size = 120 + code.len() as u64;
    file.extend(
        [0, 0x40_0000, 0x40_0000, size, size, 0x1000].iter().flat_map(|word: &u64| word.to_le_bytes()),
    );
    file.extend(code);
    file
}

/// A program of i386 that makes the call `number`; `words` are in its memory at [`I386_WORDS`].
pub(crate) fn i386(number: u32, arguments: [u32; 3], words: &[u32]) -> Vec<u8> {
    let mut code = Vec::new();
    // mov eax, …; mov ebx, …; mov ecx, …; mov edx, …
    for (opcode, value) in [0xb8, 0xbb, 0xb9, 0xba].into_iter().zip([number].into_iter().chain(arguments)) {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    }
    // int 0x80; test eax, eax; jns +4; neg eax; jmp +2; xor eax, eax; mov ebx, eax; mov eax, 1; int 0x80
    code.extend([0xcd, 0x80, 0x85, 0xc0, 0x79, 0x04, 0xf7, 0xd8, 0xeb, 0x02, 0x31, 0xc0]);
    code.extend([0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    assert_eq!(code.len(), 41);
    code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let mut file = identification(1);
    file.extend(half(&[2, 3]));
    file.extend([1, I386_ENTRY, 52, 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend(half(&[52, 32, 1, 0, 0, 0]));
    let size = 84 + u32::try_from(code.len()).unwrap();
    let segment = [1, 0, 0x0804_8000, 0x0804_8000, size, size, 7, 0x1000];
    file.extend(segment.iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend(code);
    file
}

/// The first 16 bytes of an ELF file; class 1 has words of 32 bits, 2 of 64.
fn identification(class: u8) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0];
    bytes.resize(16, 0);
    bytes
}

fn half(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Writes a program that may be run.
pub(crate) fn install(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path).unwrap();
    file.write_all(bytes).unwrap();
}
