//! What this kernel allows, and the command that allows more.

use super::super::columns::{Align, Columns, text};
use super::super::page::{Page, Style};
use super::super::units::count;
use super::TEXT;
use crate::report::{HookReport, ProbesReport, ProblemReport};

pub fn put(page: &mut Page, probes: &ProbesReport) {
    let served = probes.hooks.iter().filter(|hook| hook.backend.is_some());
    let text = format!(
        "{} {}: {} of {} hooks available",
        probes.kernel,
        probes.machine,
        served.count(),
        probes.hooks.len()
    );
    page.labelled(0, "kernel", TEXT, Style::Strong, &text);
    page.gap();
    put_hooks(page, &probes.hooks);
    for hook in &probes.hooks {
        put_details(page, hook);
    }
    page.gap();
    put_problems(page, &probes.problems);
}

fn put_hooks(page: &mut Page, hooks: &[HookReport]) {
    let mut table = Columns::new(&[
        ("HOOK", Align::Left),
        ("BACKEND", Align::Left),
        ("ATTACHES-TO", Align::Left),
    ]);
    for hook in hooks {
        table.row(vec![
            (Style::Strong, hook.hook.clone()),
            match &hook.backend {
                Some(backend) => text(backend),
                None => (Style::Warn, "none".to_owned()),
            },
            text(&hook.attach_to.join(",")),
        ]);
    }
    table.put(page);
}

fn put_details(page: &mut Page, hook: &HookReport) {
    page.gap();
    page.labelled(0, &hook.hook, TEXT, Style::Normal, &hook.gives);
    if let Some(reason) = &hook.reason {
        let (label, style) = match hook.backend {
            Some(_) => ("because", Style::Normal),
            None => ("missing", Style::Warn),
        };
        page.labelled(2, label, TEXT, style, reason);
    }
    if let Some(limits) = &hook.limits {
        page.labelled(2, "unseen", TEXT, Style::Normal, limits);
    }
}

fn put_problems(page: &mut Page, problems: &[ProblemReport]) {
    if problems.is_empty() {
        let text = "none: everything sockleak can use is available";
        page.labelled(0, "problems", TEXT, Style::Normal, text);
        return;
    }
    let fatal = problems.iter().filter(|problem| problem.fatal).count();
    let text = match fatal {
        0 => format!("{}, tracing works", count(problems.len() as u64)),
        _ => format!("{}, nothing can be traced", count(problems.len() as u64)),
    };
    page.labelled(0, "problems", TEXT, Style::Strong, &text);
    // The ones that stop everything come first.
    let in_order = [true, false].into_iter();
    for problem in in_order.flat_map(|fatal| problems.iter().filter(move |p| p.fatal == fatal)) {
        let style = if problem.fatal {
            Style::Bad
        } else {
            Style::Normal
        };
        page.gap();
        page.labelled(0, "what", TEXT, style, &problem.what);
        page.labelled(0, "costs", TEXT, Style::Normal, &problem.costs);
        page.labelled(0, "fix", TEXT, Style::Strong, &problem.fix);
    }
}
