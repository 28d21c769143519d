//! The binary `switchboard`.

use std::process::ExitCode;

/// Events come with many small allocations, made on one thread and freed on another; the system's
/// allocator is measurably slower at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    switchboard::cli::main()
}
