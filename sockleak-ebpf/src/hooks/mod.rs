//! What happens at each logical hook, whatever backend serves it.

pub mod accept;
pub mod alloc;
pub mod bind;
pub mod code;
pub mod connect;
pub mod destroy;
pub mod ending;
pub mod failure;
pub mod follow;
pub mod inventory;
pub mod left;
pub mod orphans;
pub mod release;
pub mod search;
pub mod stack;
