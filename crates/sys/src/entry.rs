//! The entry of a program that is started for every container, and does without what Rust's runtime does before `main`:
//! about 18 system calls, half of them to tell where the stack ends, for a message when it overflows.
//!
//! Without it a broken pipe is not ignored, descriptors 0 to 2 are not opened where they are closed, and a stack that
//! overflows ends the program with no word.

/// Makes the function `$main`, which returns the program's exit code, the program's entry. For programs that are
/// `#![no_main]`; arguments and environment are where they always are ([`std::env`]).
#[macro_export]
macro_rules! entry_point {
    ($main:path) => {
        // SAFETY: `main` is the name that the C library calls, and a program without a main of Rust's has no other.
        #[unsafe(no_mangle)]
        extern "C" fn main(_count: i32, _arguments: *const *const u8) -> i32 {
            let code: i32 = $main();
            // What Rust's runtime would do at the end.
            let _ = std::io::Write::flush(&mut std::io::stdout());
            code
        }
    };
}
