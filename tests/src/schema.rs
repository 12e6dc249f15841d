//! Is a line of output what `docs/schema/` promises?
//!
//! The schemas allow properties that they do not name, so that a reader written against one
//! accepts the output of a later sockleak. Tests are stricter: whatever is printed must be
//! described, so [`validate`] closes every object first. And whatever is described must be printed: what
//! the schemas leave optional because recordings of earlier versions lack it ([`LATER`]) is demanded of
//! lines that are printed now. [`validate_recorded`] is for recordings.

use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail};
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

/// Kind of an object and the text of its schema.
pub const SCHEMAS: [(&str, &str); 16] = [
    ("snapshot", include_str!("../../docs/schema/snapshot.json")),
    ("ports", include_str!("../../docs/schema/ports.json")),
    (
        "diagnosis",
        include_str!("../../docs/schema/diagnosis.json"),
    ),
    ("probes", include_str!("../../docs/schema/probes.json")),
    ("start", include_str!("../../docs/schema/start.json")),
    ("interval", include_str!("../../docs/schema/interval.json")),
    ("failure", include_str!("../../docs/schema/failure.json")),
    ("hot_loop", include_str!("../../docs/schema/hot_loop.json")),
    ("pressure", include_str!("../../docs/schema/pressure.json")),
    ("leak", include_str!("../../docs/schema/leak.json")),
    ("run", include_str!("../../docs/schema/run.json")),
    ("event", include_str!("../../docs/schema/event.json")),
    ("end", include_str!("../../docs/schema/end.json")),
    (
        "recording",
        include_str!("../../docs/schema/recording.json"),
    ),
    ("gap", include_str!("../../docs/schema/gap.json")),
    ("cut", include_str!("../../docs/schema/cut.json")),
];

/// What the schemas share.
pub const COMMON: &str = include_str!("../../docs/schema/common.json");

/// What has been added since the first recordings that must stay readable: kind of object, members.
const LATER: [(&str, &[&str]); 1] = [("interval", &["ports", "ports_omitted"])];

/// Checks one line of JSON output and returns the object.
///
/// # Errors
/// Everything that is wrong with it, with the line itself.
pub fn validate(line: &str) -> Result<Value> {
    let object = validate_recorded(line)?;
    let later = LATER.iter().filter(|(kind, _)| object["type"] == *kind);
    for member in later.flat_map(|(_, members)| *members) {
        if object.get(*member).is_none() {
            bail!("{member:?} is missing\nin {line}");
        }
    }
    Ok(object)
}

/// As [`validate`], for a line that an earlier sockleak may have printed.
///
/// # Errors
/// Everything that is wrong with it, with the line itself.
pub fn validate_recorded(line: &str) -> Result<Value> {
    let object: Value =
        serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"))?;
    let kind = object["type"].as_str().unwrap_or_default();
    let Some((_, validator)) = VALIDATORS.iter().find(|(known, _)| *known == kind) else {
        bail!("no schema for an object of type {kind:?}: {line}");
    };
    let faults: Vec<_> = validator
        .iter_errors(&object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if !faults.is_empty() {
        bail!("{}\nin {line}", faults.join("\n"));
    }
    Ok(object)
}

/// Checks every line of an output and returns the objects.
///
/// # Errors
/// As [`validate`]; also when there is no line at all.
pub fn validate_all(output: &str) -> Result<Vec<Value>> {
    let objects: Vec<_> = output.lines().map(validate).collect::<Result<_>>()?;
    if objects.is_empty() {
        bail!("there is no output");
    }
    Ok(objects)
}

/// Built once: compiling them takes longer than validating with them.
static VALIDATORS: LazyLock<Vec<(&str, Validator)>> =
    LazyLock::new(|| validators(true).expect("the schemas in docs/schema are valid"));

/// A validator per kind of object; `closed` refuses properties that are not described.
///
/// # Errors
/// What is wrong with a schema.
pub fn validators(closed: bool) -> Result<Vec<(&'static str, Validator)>> {
    let load = |text: &str| -> Result<Value> {
        let mut schema = serde_json::from_str(text)?;
        if closed {
            close(&mut schema, "");
        }
        Ok(schema)
    };
    let common = load(COMMON)?;
    let id = common["$id"].as_str().context("no $id")?.to_owned();
    let registry = Registry::new()
        .add(id, common)
        .and_then(|builder| builder.prepare())
        .map_err(|error| anyhow!("common.json: {error}"))?;
    SCHEMAS
        .iter()
        .map(|(kind, text)| {
            let schema = load(text).with_context(|| format!("{kind}.json"))?;
            let validator = jsonschema::options()
                .with_registry(&registry)
                .build(&schema)
                .map_err(|error| anyhow!("{kind}.json: {error}"))?;
            Ok((*kind, validator))
        })
        .collect()
}

/// Refuses properties that are not described, in every object below `schema`. Definitions whose
/// name ends in `_fields` are parts of larger objects and stay open.
fn close(schema: &mut Value, name: &str) {
    let Value::Object(members) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(|item| close(item, ""));
        }
        return;
    };
    for (name, member) in members.iter_mut() {
        close(member, name);
    }
    let describes = |keyword| members.get(keyword).is_some_and(|value| !value.is_null());
    let is_object = members.get("type") == Some(&json!("object")) || describes("allOf");
    if is_object && !describes("additionalProperties") && !name.ends_with("_fields") {
        members.insert("unevaluatedProperties".to_owned(), json!(false));
    }
}
