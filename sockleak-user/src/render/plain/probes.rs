//! What this kernel allows, and the command that allows more.

use super::super::columns::{Align, Columns, text};
use super::super::page::{Page, Style};
use super::super::units::count;
use super::{TEXT, grouped};
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
    page.gap();
    put_details(page, &probes.hooks);
    put_problems(page, &probes.problems);
}

fn put_hooks(page: &mut Page, hooks: &[HookReport]) {
    let mut table = Columns::new(&[
        ("HOOK", Align::Left),
        ("BACKEND", Align::Left),
        ("GIVES", Align::Sentence),
    ]);
    for hook in hooks {
        table.row(vec![
            text(&hook.hook),
            match &hook.backend {
                Some(backend) => text(backend),
                None => (Style::Warn, "none".to_owned()),
            },
            text(&hook.gives),
        ]);
    }
    table.put(page);
}

/// What several hooks share is said once.
fn put_details(page: &mut Page, hooks: &[HookReport]) {
    for hook in hooks.iter().filter(|hook| !hook.attach_to.is_empty()) {
        let text = format!("{} to {}", hook.hook, hook.attach_to.join(", "));
        page.labelled(0, "attaches", TEXT, Style::Normal, &text);
    }
    let limits = hooks
        .iter()
        .filter_map(|hook| Some((hook.hook.as_str(), hook.limits.as_deref()?)));
    for (names, limit) in grouped(limits) {
        let text = format!("{names}: {limit}");
        page.labelled(0, "unseen", TEXT, Style::Normal, &text);
    }
    let reasons = |served: bool| {
        let hooks = hooks
            .iter()
            .filter(move |hook| hook.backend.is_some() == served);
        grouped(hooks.filter_map(|hook| Some((hook.hook.as_str(), hook.reason.as_deref()?))))
    };
    for (names, reason) in reasons(true) {
        let text = format!("{names}: {reason}");
        page.labelled(0, "because", TEXT, Style::Normal, &text);
    }
    for (names, reason) in reasons(false) {
        let text = format!("{names}: {reason}");
        page.labelled(0, "missing", TEXT, Style::Warn, &text);
    }
}

fn put_problems(page: &mut Page, problems: &[ProblemReport]) {
    if problems.is_empty() {
        page.gap();
        let text = "none: everything sockleak can use is available";
        page.labelled(0, "problems", TEXT, Style::Normal, text);
        return;
    }
    let fatal = problems.iter().any(|problem| problem.fatal);
    let number = count(problems.len() as u64);
    let text = match fatal {
        false => format!("{number}, tracing works"),
        true => format!("{number}, nothing can be traced"),
    };
    page.gap();
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
