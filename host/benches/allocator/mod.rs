//! The allocator that the host's binary has, for benchmarks of its parts.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
