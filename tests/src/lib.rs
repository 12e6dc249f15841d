//! Workloads that misbehave on purpose, and the test that runs against a real kernel.

pub mod docs;
pub mod oracle;
pub mod port_scenes;
pub mod schema;
pub mod victim;
pub mod vmtest;
pub mod workload;
