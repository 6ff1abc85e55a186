//! The allocator of all programs of this crate: the system's, or with the feature `mimalloc` that one.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Its name, as results give it.
pub const NAME: &str = if cfg!(feature = "mimalloc") { "mimalloc" } else { "system" };
