//! Whether memory, maps and descriptors stay what they are while everything else comes and goes.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Arguments, Rate,
    agent::Agent,
    children::{Helper, holders},
    maps, slope, traffic,
};

/// A sample this often.
const EVERY: Duration = Duration::from_secs(5);
/// Of the samples, the first are not counted: names, maps and the heap fill up. One in so many.
const WARM_UP: usize = 4;
/// What a figure may have grown by in the end: one in so many of its median, and so much in any case.
const SHARE: f64 = 50.0;

/// Figures of one moment, by name.
type Sample = BTreeMap<String, f64>;

/// Runs it and says what grew; failure if anything did, or if the counts were wrong in the end.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let live = arguments.live.last().copied().unwrap_or(0);
    let rate = arguments.rates.last().copied().unwrap_or(Rate::Max);
    let held = holders(live)?;
    let agent = Agent::start(&arguments.program, &arguments.words)?;
    let [what, number] = traffic::words(rate);
    let (mut traffic, _) = Helper::start(&[&what, &number])?;
    let (churn, _) = Helper::start(&["churn"])?;
    let began = Instant::now();
    let mut samples: Vec<(f64, Sample)> = Vec::new();
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    while began.elapsed() < arguments.span() {
        thread::sleep(EVERY);
        let sample = sample(&agent)?;
        for report in agent.reports() {
            let kind = report.get("type").and_then(Value::as_str);
            *kinds
                .entry(kind.unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        let at_s = began.elapsed().as_secs_f64();
        println!("{}", json!({"at_s": at_s, "sample": sample}));
        samples.push((at_s, sample));
    }
    let connections = traffic.ask()?;
    let cpu_ns = agent.figures()?.cpu_ns;
    let took = began.elapsed();
    traffic.end()?;
    churn.end()?;
    for helper in held {
        helper.end()?;
    }
    let (exit, end) = agent.finish()?;
    let grown = grown(&samples);
    let difference = end.get("difference").and_then(Value::as_i64);
    let exact = difference == Some(0);
    println!(
        "{}",
        json!({
            "verdict": grown.is_empty() && exact, "grown": grown, "difference": difference,
            "difference_uncertainty": end.get("difference_uncertainty"), "loss": end.get("loss"),
            "seconds": took.as_secs_f64(), "samples": samples.len(), "connections": connections,
            "cpu_share": cpu_ns as f64 / took.as_nanos() as f64,
            "exit_ns": exit.as_nanos() as u64, "reports": kinds,
            "spans": spans(&samples),
        })
    );
    Ok(match grown.is_empty() && exact {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn sample(agent: &Agent) -> Result<Sample> {
    let figures = agent.figures()?;
    let mut sample = Sample::from([
        ("rss_kb".to_owned(), figures.rss_kb as f64),
        ("anon_kb".to_owned(), figures.anon_kb as f64),
        ("fds".to_owned(), figures.fds as f64),
    ]);
    for (map, elements) in maps::usage(agent.pid())? {
        sample.insert(format!("map {map}"), elements as f64);
    }
    Ok(sample)
}

/// The samples of one figure after the warm-up.
fn course(samples: &[(f64, Sample)], name: &str) -> Vec<(f64, f64)> {
    samples
        .iter()
        .skip(samples.len() / WARM_UP)
        .filter_map(|(at_s, sample)| Some((*at_s, *sample.get(name)?)))
        .collect()
}

fn names(samples: &[(f64, Sample)]) -> impl Iterator<Item = &str> {
    let last = samples.last().into_iter();
    last.flat_map(|(_, sample)| sample.keys().map(String::as_str))
}

/// What has grown by more than it may, with how much per hour.
fn grown(samples: &[(f64, Sample)]) -> BTreeMap<String, f64> {
    names(samples)
        .filter_map(|name| {
            let course = course(samples, name);
            let growth = slope::growth(&course)?;
            let mut values: Vec<f64> = course.iter().map(|(_, value)| *value).collect();
            values.sort_unstable_by(f64::total_cmp);
            let median = values.get(values.len() / 2)?;
            (growth > (median / SHARE).max(least(name)))
                .then(|| Some((name.to_owned(), slope::slope(&course)? * 3600.0)))?
        })
        .collect()
}

/// What counts as no growth in any case.
fn least(name: &str) -> f64 {
    match name {
        "fds" => 1.0,
        "rss_kb" | "anon_kb" => 256.0,
        _ => 64.0,
    }
}

/// The least and the most that each figure has been after the warm-up.
fn spans(samples: &[(f64, Sample)]) -> BTreeMap<&str, [f64; 2]> {
    names(samples)
        .map(|name| {
            let values = course(samples, name).into_iter().map(|(_, value)| value);
            let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
                (least.min(value), most.max(value))
            });
            (name, [least, most])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course_of(of: impl Fn(usize) -> f64) -> Vec<(f64, Sample)> {
        (0..120)
            .map(|at| (at as f64, Sample::from([("rss_kb".to_owned(), of(at))])))
            .collect()
    }

    #[test]
    fn what_fills_up_and_stays_has_not_grown() {
        let filled = course_of(|at| 8000.0 + at.min(20) as f64 * 200.0);
        assert!(grown(&filled).is_empty());
    }

    #[test]
    fn a_leak_of_a_page_a_sample_is_found() {
        let leaking = course_of(|at| 8000.0 + at as f64 * 4.0);
        assert!(grown(&leaking).contains_key("rss_kb"));
    }
}
