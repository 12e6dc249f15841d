//! What happens at each logical hook, whatever backend serves it.

pub mod accept;
pub mod alloc;
pub mod destroy;
pub mod inventory;
pub mod release;
