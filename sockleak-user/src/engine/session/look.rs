//! A look at the ports of one namespace while the watch goes on.

use anyhow::Result;

use super::Session;
use crate::{
    engine::{
        clock, namespaces,
        ports::{PortsSettings, ports},
    },
    report::OccupancyReport,
};

/// Rows of each list.
const ROWS: usize = 20;

impl Session {
    /// What the ports of this namespace are used for, as `sockleak ports` says it; `None` when the
    /// last look was too dear to look again so soon, or no inventory knows the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or its sockets cannot be read.
    pub fn look_at_ports(&mut self, netns: u32) -> Result<Option<OccupancyReport>> {
        let began_ns = clock::monotonic_ns();
        let Some(inventory) = self.tracker.inventory() else {
            return Ok(None);
        };
        // Another namespace than the last one was chosen by hand, which nobody does for long.
        if self.looked_at == Some(netns) && !self.looks.is_due(began_ns) {
            return Ok(None);
        }
        let handle = namespaces::open(&inventory.census, netns)?;
        let settings = PortsSettings {
            filter: self.settings.filter.clone(),
            to: None,
            top: Some(ROWS),
        };
        let report = ports(Some(&mut self.attached), &handle, &settings);
        let took_ns = clock::monotonic_ns().saturating_sub(began_ns);
        self.looks.took(began_ns, took_ns);
        self.looked_at = Some(netns);
        report.map(Some)
    }
}
